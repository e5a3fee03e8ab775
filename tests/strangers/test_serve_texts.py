"""Hostile requests to a service for texts are refused with an explanation, unusual ones are answered."""

import http.client
import json
import time

import psutil
import pytest

from keras_course.deployment.guard import RequestLimits

pytestmark = pytest.mark.one_backend

JSON = {"Content-Type": "application/json"}
PLAIN = {"Content-Type": "text/plain"}
GOOD = b'{"texts": ["to be"]}'


def texts(*values):
    return json.dumps({"texts": list(values)}).encode()


REFUSED = {
    "nothing at all": (b"", JSON, 422),
    "no text": (b"", PLAIN, 422),
    "blanks": (b" \n\t", PLAIN, 422),
    "an unknown kind": (GOOD, {"Content-Type": "application/x-tar"}, 415),
    "no kind": (GOOD, {"Content-Type": ""}, 415),
    "a form": (b"texts=to", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
    "another charset": (b"to", {"Content-Type": "text/plain; charset=utf-16"}, 415),
    "10 MB of text": (b"to be " * (10 * 2**20 // 6), PLAIN, 413),
    "10 MB of JSON": (texts("to be " * (10 * 2**20 // 6)), JSON, 413),
    "a long text": (b"a" * 200_000, PLAIN, 422),
    "no JSON": (b"to be", JSON, 422),
    "half of JSON": (GOOD[:-3], JSON, 422),
    "deep JSON": (b"[" * 250_000, JSON, 422),
    "deep objects": (b'{"texts":' * 25_000, JSON, 422),
    "a deep list of texts": (b'{"texts": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", JSON, 422),
    "many small lists": (b'{"texts": [' + b"[]," * 80_000 + b"[]]}", JSON, 422),
    "a number of thousands of digits": (b'{"texts": ' + b"9" * 100_000 + b"}", JSON, 422),
    "numbers that are none": (b'{"texts": [NaN, Infinity]}', JSON, 422),
    "a list": (b'["to be"]', JSON, 422),
    "a text": (b'"to be"', JSON, 422),
    "no texts": (texts(), JSON, 422),
    "null": (b'{"texts": null}', JSON, 422),
    "an object of texts": (b'{"texts": {"a": "to"}}', JSON, 422),
    "numbers": (texts(1, 2), JSON, 422),
    "lists of texts": (texts(["to"], ["be"]), JSON, 422),
    "more than texts": (b'{"texts": ["to"], "model": "/etc/passwd"}', JSON, 422),
    "too many texts": (texts(*["to"] * 129), JSON, 422),
    "thousands of texts": (texts(*["to"] * 20_000), JSON, 422),
    "an empty text": (texts("to", ""), JSON, 422),
    "NUL": (b'{"texts": ["to\\u0000be"]}', JSON, 422),
    "NUL in plain text": (b"to\0be", PLAIN, 422),
    "half a character": (b'{"texts": ["\\ud83d"]}', JSON, 422),
    "the other half": (b'{"texts": ["be \\ude00\\ud83d"]}', JSON, 422),
    "half a character in UTF-8": (b'{"texts": ["\xed\xa0\xbd"]}', JSON, 422),
    "bytes that are no UTF-8": (b"to \xff\xfe be", PLAIN, 422),
    "half of a character's bytes": ("to 手".encode()[:-1], PLAIN, 422),
    "UTF-16": ('{"texts": ["to"]}'.encode("utf-16"), JSON, 422),
    "control characters alone": (b"\x1b\x07\x7f", PLAIN, 422),
    "too many words": (b"to be " * 20, PLAIN, 422),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), PLAIN, 422),
}


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_bodies_are_refused_with_an_explanation(text_server, name):
    body, headers, expected = REFUSED[name]
    started = time.perf_counter()
    status, answer = text_server.ask("POST", "/predict", body, headers)
    assert (status, set(answer)) == (expected, {"error"})
    assert 10 < len(answer["error"]) < 400
    assert "\n" not in answer["error"]
    assert "Traceback" not in answer["error"]
    assert time.perf_counter() - started < 5
    assert text_server.ask("POST", "/predict", GOOD, JSON)[0] == 200


ANSWERED = {
    "an attack on a page": "<script>alert(1)</script>",
    "an attack on a program": "to'; DROP TABLE texts; -- {{7*7}} ${jndi:ldap://a}",
    "signs that turn the direction": "to \u202e\u2066 be",
    "signs of no width": "t\u200bo\ufeff be",
    "emoji": "to 😀👩‍👩‍👧 be",
    "many accents on one letter": "to e" + "\u0301\u0316" * 3000,
    "a letter of many": "to \ufdfa",
    "no characters yet": "to \uffff\U0010ffff",
    "marks of the model": "[PAD] [UNK] [END]",
    "one long word": "a" * 9999,
    "quotation marks": '"\\"' * 5 + " to",
    "fractions, ligatures and capitals": "½ ﬁ İ ß ẞ",
}


@pytest.mark.parametrize("name", ANSWERED)
def test_unusual_texts_are_answered_and_returned_unchanged(text_server, name):
    started = time.perf_counter()
    status, answer = text_server.ask("POST", "/predict?cut=true&tokens=true", texts(ANSWERED[name]), JSON)
    assert status == 200, answer
    (found,) = answer["predictions"]
    assert found["text"] == ANSWERED[name]
    assert sum(each["probability"] for each in found["answers"]) <= 1.001
    assert set(found["tokens"]) <= {"[END]", "[UNK]", "to", "be", "or", "not"}
    assert time.perf_counter() - started < 5


def test_a_text_cannot_add_headers_to_the_answer(text_server):
    text = "to\r\nContent-Type: text/html\r\n\r\n<script>"
    connection = http.client.HTTPConnection("127.0.0.1", text_server.port, timeout=60)
    connection.request("POST", "/predict?cut=true", texts(text), JSON)
    response = connection.getresponse()
    assert response.headers.get_all("Content-Type") == ["application/json"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    content = response.read()
    connection.close()
    assert b"\n" not in content
    assert json.loads(content)["predictions"][0]["text"] == text


def test_the_largest_bodies_are_answered_without_a_memory_leak(text_server):
    limits = RequestLimits()
    process = psutil.Process(text_server.process.pid)
    most = (limits.text_bytes - 20) // limits.texts - 4
    largest = texts(*["手" * (most // 6)] * limits.texts)
    assert limits.text_bytes * 0.9 < len(largest) <= limits.text_bytes
    for _ in range(5):
        assert text_server.ask("POST", "/predict?cut=true", largest, JSON)[0] == 200
    before = process.memory_info().rss
    for _ in range(20):
        started = time.perf_counter()
        assert text_server.ask("POST", "/predict?cut=true", largest, JSON)[0] == 200
        assert time.perf_counter() - started < 2
    assert process.memory_info().rss - before < 2**25


@pytest.mark.parametrize("query", ["top=0", "top=-1", "top=6", "top=x", "top=", f"top={'9' * 5000}"])
def test_a_wrong_number_is_explained(text_server, query):
    status, answer = text_server.ask("POST", f"/predict?{query}", GOOD, JSON)
    assert status == 400
    assert "give a whole number from 1 to 5" in answer["error"]
