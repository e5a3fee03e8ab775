"""The service for texts as a client sees it: real requests, and the answers that the model gives."""

import asyncio
import io
import json
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from keras_course.cards import ModelCard, read_card
from keras_course.deployment.guard import RequestLimits
from keras_course.deployment.runtimes import Runtime, open_model
from keras_course.deployment.service import make_app
from keras_course.deployment.texts import encode_text, predict_texts
from keras_course.errors import CourseError
from keras_course.preprocessing.text_format import TextFormat
from tests.deployment.conftest import VOCABULARY, text_card

JSON = {"Content-Type": "application/json"}
PLAIN = {"Content-Type": "text/plain"}
TEXTS = ["To be", "or not to be", "quid", "the question whether 'tis nobler"]


def body(*texts, **more):
    return json.dumps({"texts": list(texts), **more}).encode()


@pytest.fixture(scope="session", params=["lstm", pytest.param("onnx", marks=pytest.mark.one_backend)])
def server(request, start_server, text_run, tmp_path_factory):
    """A language model, answered by Keras and by ONNX Runtime."""
    run = text_run("lstm")
    if request.param == "onnx":
        from keras_course.deployment.export import export_model

        output = tmp_path_factory.mktemp("served") / "model.onnx"
        run = export_model(run, format="onnx", output=output, trust=True).path
    server = start_server(run)
    yield server
    server.check()


@pytest.fixture(scope="session")
def expected(text_run):
    """What the model answers to texts, opened in this process."""
    runtime = open_model(text_run("lstm"), trust=True)
    return lambda texts, top: list(predict_texts(runtime, texts, top=top, cut=True))


def check(found, prediction, text):
    assert found["text"] == text
    assert [answer["class"] for answer in found["answers"]] == [answer.class_name for answer in prediction.answers]
    shares = [answer["probability"] for answer in found["answers"]]
    np.testing.assert_allclose(shares, [answer.probability for answer in prediction.answers], atol=1e-5)
    assert found.get("note", "") == prediction.note


def test_texts_get_the_answers_of_the_model(server, expected):
    status, answer = server.ask("POST", "/predict?top=4", body(*TEXTS), JSON)
    assert status == 200
    assert answer["milliseconds"] > 0
    for found, prediction, text in zip(answer["predictions"], expected(TEXTS, 4), TEXTS, strict=True):
        check(found, prediction, text)
        assert set(found) == {"text", "answers"} | ({"note"} if prediction.note else set())


@pytest.mark.parametrize("kind", ["text/plain", "text/plain; charset=UTF-8", 'Text/Plain;charset="utf-8"'])
def test_a_body_of_plain_text_is_one_text(server, expected, kind):
    text = "To be,\nor not"
    status, answer = server.ask("POST", "/predict", text.encode(), {"Content-Type": kind})
    assert status == 200
    (found,) = answer["predictions"]
    check(found, expected([text], 3)[0], text)


def test_it_says_which_tokens_the_model_reads(server):
    _, answer = server.ask("POST", "/predict?tokens=true", body("To be, quid"), JSON)
    assert answer["predictions"][0]["tokens"] == ["[END]", "to", "be", "[UNK]"]


def test_a_text_that_is_too_long_is_cut_only_if_that_is_wanted(server, expected):
    text = "to be " * 5
    status, answer = server.ask("POST", "/predict", body("to be", text), JSON)
    assert status == 422
    assert answer == {"error": "text 2 has 11 tokens, and the model takes 8; shorten it, or ask with cut=true"}
    status, answer = server.ask("POST", "/predict?cut=true", body(text), JSON)
    assert status == 200
    check(answer["predictions"][0], expected([text], 3)[0], text)
    assert answer["predictions"][0]["note"] == "of its 11 tokens the model takes 8"


def test_programs_may_have_logits(server, text_run):
    import http.client

    card = read_card(text_run("lstm") / "model.keras")
    tokens = np.stack([encode_text(text, card.text_format).tokens for text in TEXTS])
    logits = open_model(text_run("lstm"), trust=True).logits(tokens)
    _, answer = server.ask("POST", "/predict?logits=true", body(*TEXTS), JSON)
    np.testing.assert_allclose([row["logits"] for row in answer["predictions"]], logits, atol=1e-4)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/predict", body(*TEXTS), {**JSON, "Accept": "application/x-npy"})
    response = connection.getresponse()
    assert response.headers["Content-Type"] == "application/x-npy"
    np.testing.assert_allclose(np.load(io.BytesIO(response.read()), allow_pickle=False), logits, atol=1e-4)
    connection.close()


def test_many_texts_are_answered_in_their_order(server, expected):
    texts = [" ".join(np.random.default_rng(seed).choice(VOCABULARY[3:], 5)) for seed in range(128)]
    status, answer = server.ask("POST", "/predict?top=1", body(*texts), JSON)
    assert status == 200
    for found, prediction, text in zip(answer["predictions"], expected(texts, 1), texts, strict=True):
        check(found, prediction, text)


def test_metadata_is_the_card_of_the_model(server):
    status, answer = server.ask("GET", "/metadata")
    assert status == 200
    card = text_card("lstm")
    assert answer["class_names"] == list(VOCABULARY)
    assert answer["texts"] == {**card.text_format.to_dict(), "vocabulary": len(VOCABULARY)}
    assert answer["title"] == card.title
    assert answer["runtime"] in server.announced
    assert "pictures" not in answer


def test_the_description_is_true(server):
    """Each operation that is described is there, and each property that is required comes."""
    _, document = server.ask("GET", "/openapi.json")
    assert "/explain" not in document["paths"]
    assert server.ask("POST", "/explain", body("to"), JSON)[0] == 404
    for path, operations in document["paths"].items():
        for method in operations:
            assert server.ask(method.upper(), path, body("to be") if method == "post" else None, JSON)[0] == 200
    operation = document["paths"]["/predict"]["post"]
    assert set(operation["requestBody"]["content"]) == {"application/json", "text/plain"}
    assert {parameter["name"] for parameter in operation["parameters"]} == {"top", "logits", "tokens", "cut"}
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    described = schema["properties"]["predictions"]["items"]
    query = "/predict?logits=true&tokens=true"
    found = server.ask("POST", query, body("quid"), JSON)[1]["predictions"][0]
    assert set(found) == set(described["properties"])
    plain = server.ask("POST", "/predict", body("to"), JSON)[1]["predictions"][0]
    assert set(described["required"]) == set(plain)


def test_a_picture_is_refused_with_an_explanation(server):
    status, answer = server.ask("POST", "/predict", b"\x89PNG", {"Content-Type": "image/png"})
    assert status == 415
    assert answer["error"] == "Content-Type is 'image/png'; send one of application/json, text/plain"


def test_the_log_counts_texts_and_says_nothing_of_them(start_server, text_run):
    server = start_server(text_run("lstm"), "--log")
    assert server.ask("POST", "/predict", body("to be", "or not"), JSON)[0] == 200
    assert server.ask("POST", "/predict", b"secret \xff", PLAIN)[0] == 422
    server.send_raw(b"no HTTP\r\n\r\n")
    assert server.stop() == 0
    lines = server.errors().splitlines()
    assert [re.search(r"(\d+) ms (\d+ \w+)$", line)[2] for line in lines] == ["2 texts", "0 texts", "0 texts"]
    assert "secret" not in server.errors()


# --- In this process ---------------------------------------------------------------------------------------------

LARGE = ("[PAD]", "[UNK]", "[END]", *(f"word{number}" for number in range(20_000)))


def language_model(vocabulary=VOCABULARY, run=None, length=8):
    """A model that says after each text the token whose number is one more than that of its last one."""

    def follow(tokens):
        logits = np.zeros((len(tokens), len(vocabulary)), "float32")
        logits[range(len(tokens)), (tokens[:, -1] + 1) % len(vocabulary)] = 1
        return logits

    text_format = TextFormat(unit="words", vocabulary=vocabulary, sequence_length=length, padding="left")
    card = ModelCard(title="Counts", text_format=text_format)
    return Runtime(Path("model.onnx"), "onnx", "Nothing 1.0", card, run or follow)


async def ask(app, content, *, kind="application/json", path="/predict", query="", method="POST"):
    """Sends something to an application; returns the status and what came back."""
    sent, parts = [], [content, b""]

    async def receive():
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", kind.encode()), (b"host", b"localhost")]
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": headers}
    with suppress(OSError, CourseError):  # goes on to the server, which logs it
        await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


def ask_once(runtime, content, limits=None, **settings):
    status, answer = asyncio.run(ask(make_app(runtime, limits=RequestLimits(**(limits or {}))), content, **settings))
    return status, json.loads(answer)


def test_a_large_vocabulary_is_answered_and_described():
    runtime = language_model(LARGE)
    status, answer = ask_once(runtime, body(*[f"word{number}" for number in range(100)]), query="top=2")
    assert status == 200
    assert [found["answers"][0]["class"] for found in answer["predictions"]] == [
        f"word{number + 1}" for number in range(100)
    ]
    status, answer = ask_once(runtime, body("word7", "word9"), query="top=1&logits=true")
    assert [np.argmax(found["logits"]) for found in answer["predictions"]] == [11, 13]
    assert ask_once(runtime, body("word7"), query="top=1000")[0] == 200
    status, answer = ask_once(runtime, body("word7"), query="top=1001")
    assert (status, answer["error"]) == (400, "top is '1001'; give a whole number from 1 to 1000")
    status, answer = ask_once(runtime, b"", path="/metadata", method="GET")
    assert answer["class_names"] == list(LARGE)


def test_the_limits_are_those_that_are_set():
    runtime = language_model()
    for content, limits, status, error in [
        (body("to be"), {"text_bytes": 10}, 413, "the request is too large; at most 10 bytes are read"),
        (body("to", "be"), {"texts": 1}, 422, "the body has 2 texts; send 1 to 1"),
        (body("to be"), {"characters": 4}, 422, "the text has 5 characters; at most 4 are read"),
    ]:
        assert ask_once(runtime, content, limits) == (status, {"error": error})


def test_a_long_text_does_not_block_the_event_loop(monkeypatch):
    """It is encoded in a thread, while others are answered."""
    import threading

    from keras_course.deployment import text_service

    go_on, encode = threading.Event(), text_service.encode_text

    def slow(text, *arguments, **settings):
        if len(text) > 2000:
            assert go_on.wait(20)
        return encode(text, *arguments, **settings)

    monkeypatch.setattr(text_service, "encode_text", slow)

    async def main():
        app = make_app(language_model())
        long = asyncio.create_task(ask(app, body("to " * 1000), query="cut=1"))
        await asyncio.sleep(0.05)
        assert (await ask(app, body("to be")))[0] == 200
        assert not long.done()
        go_on.set()
        return (await long)[0]

    assert asyncio.run(main()) == 200


def test_a_model_that_cannot_answer_is_not_the_end():
    def run(tokens):
        raise OSError("/secret/path")

    expected = (500, {"error": "the model could not answer; the service goes on"})
    assert ask_once(language_model(run=run), body("to be")) == expected


def test_a_model_of_embeddings_is_not_served(text_run):
    runtime = language_model()
    card = ModelCard(title="a", class_names=["0", "1"], text_format=runtime.card.text_format, outputs="embedding")
    vectors = Runtime(runtime.path, "onnx", "Nothing", card, runtime.run)
    with pytest.raises(CourseError, match=r"model.onnx gives embeddings, and no classes; serve a model that gives"):
        make_app(vectors)
