"""The page of the service for texts in a real browser: write, read the answer, and continue the text."""

import json
import re

import numpy as np
import pytest

from tests.deployment.conftest import FEELINGS, VOCABULARY

ANSWERED = re.compile(r"^in [\d.]+ ms$")


@pytest.fixture(scope="module")
def server(start_server, text_run):
    """A language model, answered by Keras."""
    server = start_server(text_run("lstm"))
    yield server
    server.check()


@pytest.fixture(scope="module")
def hostile_server(start_server, tmp_path_factory):
    """A language model whose vocabulary is written to attack a page."""
    from keras_course.cards import ModelCard
    from keras_course.models.recurrent import recurrent_language_model
    from keras_course.preprocessing.text_format import TextFormat
    from keras_course.training import RunDirectory

    attacks = ("<img/src=x/onerror=alert(1)>", "</script><script>alert(1)</script>", "&amp;<b>", "javascript:alert(1)")
    text_format = TextFormat(
        unit="words", vocabulary=("[PAD]", "[UNK]", "[END]", *attacks), sequence_length=60, padding="left"
    )
    model = recurrent_language_model(vocabulary_size=7, sequence_length=60, units=2)
    model.set_weights([np.zeros(weight.shape) for weight in model.get_weights()])
    card = ModelCard(title="<script>alert(1)</script>", text_format=text_format, data="</script>", limits="<b>")
    folder = tmp_path_factory.mktemp("hostile") / "run"
    with RunDirectory(folder) as run:
        run.save_model(model, card)
    return start_server(folder)


@pytest.fixture
def open_page(pages):
    """Opens a page of a service; in the end nothing else may have been asked and nothing complained of."""
    complaints, requests, opened = [], [], []

    def open_page(server, expected_complaint=None, **options):
        def complain(text):
            if expected_complaint is None or expected_complaint not in text:
                complaints.append(text)

        listeners = (
            ("console", lambda message: complain(message.text)),
            ("pageerror", lambda error: complain(str(error))),
            ("dialog", lambda dialog: complain("a script of the model ran")),
            ("request", lambda request: requests.append(request.url)),
        )
        page = pages.take(listeners=listeners, **{"viewport": {"width": 1100, "height": 800}} | options)
        page.goto(server.url)
        opened.append(server.url)
        return page

    yield open_page
    assert complaints == []
    assert [url for url in requests if not url.startswith((*opened, "data:"))] == []


def answered(page):
    page.locator("#took").filter(has_text=ANSWERED).wait_for()
    page.locator("main[aria-busy='false']").wait_for()
    return page.locator("#answer").text_content()


def expected_answers(server, text, top=5):
    body = json.dumps({"texts": [text]})
    headers = {"Content-Type": "application/json"}
    return server.ask("POST", f"/predict?top={top}&cut=true", body, headers)[1]["predictions"][0]["answers"]


def test_the_answer_comes_while_the_user_types(open_page, server):
    page = open_page(server)
    assert page.locator("#answer").text_content() == "Nothing yet."
    assert page.locator("#answer-heading").text_content() == "What follows: the next word"
    page.get_by_role("textbox", name="Text").press_sequentially("To be, quid", delay=5)
    page.locator("#tokens li").nth(3).wait_for()
    expected = expected_answers(server, "To be, quid")
    assert answered(page) == expected[0]["class"]
    bars = page.locator("#bars li")
    assert bars.locator(".name").all_text_contents() == [answer["class"] for answer in expected]
    shares = [float(text.removesuffix(" %")) for text in bars.locator(".share").all_text_contents()]
    np.testing.assert_allclose(shares, [100 * answer["probability"] for answer in expected], atol=0.06)
    assert page.locator("#tokens li").all_text_contents() == ["[END]", "to", "be", "[UNK]"]
    assert page.locator("#tokens .unknown").all_text_contents() == ["[UNK]"]
    page.click("#clear")
    page.locator("#answer").filter(has_text="Nothing yet.").wait_for()
    assert page.locator("#bars li").count() == page.locator("#tokens li").count() == 0


def test_a_word_continues_the_text_also_by_the_keyboard(open_page, server):
    page = open_page(server)
    page.fill("#text", "To be")
    answered(page)
    word = page.locator("#bars button").first
    token = word.text_content()
    word.focus()
    page.keyboard.press("Enter")
    assert page.locator("#text").input_value() == f"To be {token}"
    assert page.evaluate("() => document.activeElement.id") == "text"
    page.locator("#tokens li").nth(3).wait_for()
    expected = expected_answers(server, f"To be {token}")
    assert answered(page) == expected[0]["class"]
    assert "[END]" not in page.locator("#bars button").all_text_contents(), "a mark is no word"


def test_a_mistake_is_explained_and_the_next_text_answered(open_page, server):
    page = open_page(server, expected_complaint="422")
    page.fill("#text", "to be " * 9)
    page.locator("#error").filter(has_text="has 19 tokens, and the model takes 8").wait_for()
    assert page.locator("#error").get_attribute("role") == "alert"
    assert page.locator("#answer").text_content() == "No answer."
    page.get_by_label("Cut a text that is too long").check()
    page.locator("#note").filter(has_text="Note: of its 19 tokens the model takes 8.").wait_for()
    assert answered(page)
    assert page.locator("#error").text_content() == ""
    page.fill("#text", "a" * 10_001)
    page.locator("#error").filter(has_text="The text has 10,001 characters; at most 10,000 are read.").wait_for()
    page.fill("#text", "quid")
    page.locator("#note").filter(has_text="the model knows none of its words").wait_for()


def test_the_last_of_many_quick_texts_is_answered(open_page, server):
    page = open_page(server)
    words = [VOCABULARY[3 + number % 13] for number in range(40)]
    page.evaluate(
        """(words) => {
          const box = document.getElementById("text");
          for (const word of words) { box.value = word; askNow(); }
          function askNow() { document.getElementById("cut").dispatchEvent(new Event("change")); }
        }""",
        words,
    )
    page.locator("#tokens li").nth(1).filter(has_text=words[-1]).wait_for()
    assert answered(page) == expected_answers(server, words[-1])[0]["class"]


def test_texts_of_models_and_users_are_never_html(open_page, hostile_server):
    page = open_page(hostile_server, expected_complaint="422")
    assert page.locator("#title").text_content() == "<script>alert(1)</script>"
    page.fill("#text", "<img>")
    answered(page)
    assert page.locator("#bars li").count() == 5
    assert page.locator("main img, main script, main b").count() == 0
    for button in page.locator("#bars button").all():
        button.click()
        answered(page)
        break
    page.goto(f"{hostile_server.url}/docs")
    page.locator("h2").first.wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 768, 1280])
def test_it_fits_every_screen(open_page, server, width, scheme):
    page = open_page(server, viewport={"width": width, "height": 700}, color_scheme=scheme)
    page.fill("#text", "the question whether " + "x" * 300)
    answered(page)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    for button in page.locator("button:visible, .check:visible").all():
        assert button.bounding_box()["height"] >= 40


def test_the_keyboard_reaches_everything_and_each_thing_has_a_name(open_page, server):
    page = open_page(server)
    page.fill("#text", "To be")
    answered(page)
    page.focus("#text")
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("() => document.activeElement.id || document.activeElement.className"))
    assert reached[:2] == ["clear", "cut"]
    assert "name" in reached[2:], "the words that continue the text"
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, textarea, a")]
          .filter((node) => !(node.textContent.trim() || node.labels?.length || node.ariaLabel)).map((n) => n.id)"""
    )
    assert nameless == []
    assert page.locator("#answer").get_attribute("aria-live") == "polite"
    for described in page.locator("[aria-describedby], [aria-labelledby]").all():
        ids = described.evaluate(
            "(n) => `${n.getAttribute('aria-describedby') ?? ''} ${n.getAttribute('aria-labelledby') ?? ''}`"
        ).split()
        assert all(page.locator(f"#{name}").count() == 1 for name in ids)


def test_a_classifier_names_classes_and_continues_nothing(open_page, start_server, text_run):
    page = open_page(start_server(text_run("classifier")))
    page.fill("#text", "To be")
    assert answered(page) in FEELINGS
    assert page.locator("#answer-heading").text_content() == "Answer"
    assert page.locator("#bars button").count() == 0
    assert ", ".join(FEELINGS) in page.locator("#facts").text_content()


def test_programmers_find_what_it_takes(open_page, server):
    page = open_page(server)
    page.get_by_role("link", name="its documentation").click()
    page.wait_for_url("**/docs")
    headings = page.locator("h2").all_text_contents()
    assert "POST /predict" in headings
    assert "POST /explain" not in headings
    text = page.locator("main").text_content()
    parts = ("text/plain", "texts: list (up to 128) of string", "from 1 to 16", "curl --json", "10,000 characters")
    for part in parts:
        assert part in text
