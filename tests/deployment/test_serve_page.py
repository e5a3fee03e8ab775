"""The page of the service in a real browser: draw, drop a photo, use the camera, and see the answer."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from keras_course.cards import ModelCard, read_card
from keras_course.preprocessing import PictureFormat

ANSWERED = re.compile(r"^in [\d.]+ ms$")


@pytest.fixture(scope="module")
def drawing_server(start_server, make_run):
    """A server of a network for drawings, with Keras."""
    pictures = PictureFormat(height=28, width=28, channels=1, drawing=True)
    names = ("zero", "one", "two", "three", "four & <b>five</b>")
    return start_server(make_run("dense", ModelCard(title="Digits <1>", class_names=names, picture_format=pictures)))


@pytest.fixture
def open_page(pages):
    """Opens a page of a service; after the test, nothing else may have been fetched or written to the console."""
    messages, requests, opened = [], [], []

    def open_page(server, expected_message=None, **options):
        def add_message(text):
            if expected_message is None or expected_message not in text:
                messages.append(text)

        listeners = (
            ("console", lambda message: add_message(message.text)),
            ("pageerror", lambda error: add_message(str(error))),
            ("request", lambda request: requests.append(request.url)),
        )
        page = pages.take(listeners=listeners, **{"viewport": {"width": 1100, "height": 800}} | options)
        page.goto(server.url)
        opened.append(server.url)
        return page

    yield open_page
    assert messages == []
    elsewhere = [url for url in requests if not url.startswith((*opened, "data:", "blob:"))]
    assert elsewhere == []


def wait_for_answer(page):
    """Waits for the answer to the newest picture and its explanation, and returns the answer."""
    page.locator("#took").filter(has_text=ANSWERED).wait_for()
    page.locator("main[aria-busy='false']").wait_for()
    return page.locator("#answer").text_content()


def draw_a_seven(page):
    box = page.locator("#drawing").bounding_box()
    places = [(0.3, 0.2), (0.7, 0.2), (0.6, 0.5), (0.45, 0.85)]
    (x, y), *others = [(box["x"] + a * box["width"], box["y"] + b * box["height"]) for a, b in places]
    page.mouse.move(x, y)
    page.mouse.down()
    for x, y in others:
        page.mouse.move(x, y, steps=6)
    page.mouse.up()


def prepared_picture(page):
    """Returns the input of the model that the page shows, as (28, 28) of 0 to 255."""
    seen = page.evaluate(
        "() => Array.from(document.getElementById('prepared').getContext('2d').getImageData(0, 0, 28, 28).data)"
    )
    return np.array(seen).reshape(28, 28, 4)[:, :, 0]


def height_of(ink):
    """Returns the height of the drawing in rows."""
    rows = np.flatnonzero(ink.max(axis=1) > 77)
    return rows[-1] - rows[0] + 1


def photo_file(seed=0):
    blocks = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype="uint8")
    file = io.BytesIO()
    Image.fromarray(blocks).resize((200, 140), Image.Resampling.NEAREST).save(file, "PNG")
    return {"name": "blocks.png", "mimeType": "image/png", "buffer": file.getvalue()}


def test_a_drawing_is_answered_and_explained(open_page, drawing_server):
    page = open_page(drawing_server)
    assert page.locator("#title").text_content() == "Digits <1>"
    assert page.locator("#tab-draw").get_attribute("aria-selected") == "true"
    draw_a_seven(page)
    name = wait_for_answer(page)
    bars = page.locator("#bars li")
    assert bars.count() == 5
    assert bars.first.locator(".name").text_content() == name
    shares = [float(text.removesuffix(" %")) for text in bars.locator(".share").all_text_contents()]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.5)
    assert set(bars.locator(".name").all_text_contents()) == {"zero", "one", "two", "three", "four & <b>five</b>"}
    page.locator("#method").filter(has_text="why").wait_for()
    ink = prepared_picture(page)
    assert ink.max() == 255, "strokes are white"
    assert ink[:3].max() == 0, "the background is black"
    assert 18 <= height_of(ink) <= 22, "the digit is as large as in MNIST"
    assert "Occlusion" in page.locator("#explanation").text_content()


# Files of several canvases can be ready in any order: here the first takes longest.
FILES_IN_REVERSE_ORDER = """() => {
  const toBlob = HTMLCanvasElement.prototype.toBlob;
  let asked = 0;
  HTMLCanvasElement.prototype.toBlob = function (done, ...format) {
    const delay = Math.max(0, 900 - 60 * asked++);
    toBlob.call(this, (blob) => setTimeout(done, delay, blob), ...format);
  };
}"""


def test_the_answer_is_for_the_last_drawing_if_files_are_ready_in_reverse_order(open_page, drawing_server):
    page = open_page(drawing_server)
    page.evaluate(FILES_IN_REVERSE_ORDER)
    draw_a_seven(page)
    wait_for_answer(page)
    page.wait_for_timeout(1000)
    assert 18 <= height_of(prepared_picture(page)) <= 22, "the digit is as large as in MNIST"


def test_undo_clear_and_escape_remove_the_answer(open_page, drawing_server):
    page = open_page(drawing_server)
    for clear in (lambda: page.click("#undo"), lambda: page.click("#clear"), lambda: page.keyboard.press("Escape")):
        draw_a_seven(page)
        wait_for_answer(page)
        clear()
        page.locator("#answer").filter(has_text="Nothing yet.").wait_for()
        assert page.locator("#bars li").count() == 0


def test_an_answer_that_arrives_after_clearing_is_not_shown(open_page, drawing_server):
    page = open_page(drawing_server)
    held = []
    page.route("**/explain", lambda route: held.append(route))
    draw_a_seven(page)
    page.locator("#took").filter(has_text=ANSWERED).wait_for()
    for _ in range(200):
        if held:
            break
        page.wait_for_timeout(10)
    page.click("#clear")
    for route in held:
        route.continue_()
    page.locator("main[aria-busy='false']").wait_for()
    assert page.locator("#answer").text_content() == "Nothing yet."
    assert page.locator("#explanation").text_content() == ""


def test_drawing_with_a_finger(open_page, drawing_server):
    page = open_page(drawing_server, viewport={"width": 360, "height": 800}, has_touch=True, is_mobile=True)
    page.locator("#drawing").tap()
    assert wait_for_answer(page)


@pytest.mark.parametrize(("width", "height"), [(390, 844), (390, 660), (360, 640), (320, 568), (740, 360), (667, 375)])
def test_drawing_and_answer_are_visible_on_a_phone_without_scrolling(open_page, drawing_server, width, height):
    page = open_page(drawing_server, viewport={"width": width, "height": height}, has_touch=True, is_mobile=True)
    before = page.locator("#drawing").bounding_box()
    draw_a_seven(page)
    wait_for_answer(page)
    assert page.evaluate("() => scrollY") == 0
    assert page.locator("#drawing").bounding_box() == before, "the drawing must not move under the finger"
    answer, bar, drawing = (page.locator(name).bounding_box() for name in ("#answers", "#bars li >> nth=0", "#drawing"))
    assert bar["y"] + bar["height"] <= height
    assert answer["y"] >= drawing["y"] + drawing["height"] or answer["x"] >= drawing["x"] + drawing["width"]
    for name in ("#undo", "#clear"):
        button = page.locator(name)
        button.scroll_into_view_if_needed()
        button.tap()


def test_the_answer_for_a_photo_equals_that_of_the_service(open_page, server, cnn_run):
    page = open_page(server)
    assert page.locator("#tab-photo").get_attribute("aria-selected") == "true", "the model is not for drawings"
    for seed in (1, 2):
        file = photo_file(seed)
        page.set_input_files("#file", file)
        page.locator("#preview").wait_for()
        expected = server.ask("POST", "/predict", file["buffer"], {"Content-Type": "image/png"})[1]
        best = expected["predictions"][0]["answers"][0]
        page.locator("#bars li .share").first.filter(has_text=f"{100 * best['probability']:.1f} %").wait_for()
        assert wait_for_answer(page) == best["class"]
        page.locator("#size").filter(has_text="28 × 20 pixels").wait_for()
    facts = page.locator("#facts").text_content()
    assert ", ".join(read_card(cnn_run / "model.keras").class_names) in facts


def test_a_photo_can_be_dropped(open_page, server):
    page = open_page(server)
    content = list(photo_file()["buffer"])
    transfer = page.evaluate_handle(
        "(bytes) => { const t = new DataTransfer(); t.items.add(new File([new Uint8Array(bytes)], 'dropped.png',"
        " { type: 'image/png' })); return t; }",
        content,
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    assert wait_for_answer(page)
    assert page.locator("#drop-text").text_content() == "dropped.png"


def test_a_bad_file_is_explained_and_the_next_photo_is_answered(open_page, server):
    page = open_page(server, expected_message="422")
    page.set_input_files("#file", {"name": "thesis.png", "mimeType": "image/png", "buffer": b"no picture"})
    page.locator("#error").filter(has_text="cannot be read as a picture").wait_for()
    assert page.locator("#answer").text_content() == "No answer."
    page.set_input_files("#file", photo_file())
    wait_for_answer(page)
    page.locator("#error:empty").wait_for(state="attached")


def test_the_camera_gives_answers_until_it_is_stopped(open_page, server):
    page = open_page(server)
    page.click("#tab-camera")
    page.click("#start")
    assert wait_for_answer(page)
    page.click("#stop")
    assert page.locator("#start").is_visible()
    assert page.evaluate("() => document.getElementById('video').srcObject === null")


def test_a_denied_camera_is_explained(open_page, server):
    page = open_page(server)
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = async () => { throw new Error('Permission denied'); } }"
    )
    page.click("#tab-camera")
    page.click("#start")
    assert page.locator("#error").text_content() == "The camera cannot be used: Permission denied."


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_fits_every_screen(open_page, drawing_server, width, scheme):
    page = open_page(drawing_server, viewport={"width": width, "height": 800}, color_scheme=scheme)
    draw_a_seven(page)
    wait_for_answer(page)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    for button in page.locator("button:visible").all():
        assert button.bounding_box()["height"] >= 40


def test_the_keyboard_reaches_every_control(open_page, drawing_server):
    page = open_page(drawing_server)
    page.focus("#tab-draw")
    page.keyboard.press("ArrowRight")
    assert page.locator("#panel-photo").is_visible()
    assert page.evaluate("() => document.activeElement.id") == "tab-photo"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator("#panel-draw").is_visible()
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("() => document.activeElement.id"))
    assert {"drawing", "undo", "clear"} <= reached


def test_a_stopped_service_is_reported(open_page, start_server, onnx_file):
    server = start_server(onnx_file)
    page = open_page(server, expected_message="ERR_CONNECTION_REFUSED")
    assert server.stop() == 0
    page.set_input_files("#file", photo_file())
    page.locator("#error").filter(has_text="does not answer").wait_for()


@pytest.mark.parametrize("width", [360, 1100])
def test_the_documentation_page_describes_the_requests(open_page, server, width):
    page = open_page(server, viewport={"width": width, "height": 800})
    page.get_by_role("link", name="its documentation").click()
    page.wait_for_url("**/docs")
    headings = page.locator("h2").all_text_contents()
    assert {"POST /predict", "POST /explain", "GET /metadata"} <= set(headings)
    text = page.locator("main").text_content()
    for part in ("multipart/form-data", "picture: list (up to 32) of file", "from 1 to 5", f"{server.url}/predict"):
        assert part in text
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
