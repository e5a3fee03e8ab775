"""The controls of the page in a real browser: mouse, touch, keyboard, phone, dark mode and links."""

import re

import numpy as np
import pytest

from keras_course.datasets import lines
from keras_course.surfaces import SURFACES

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


def readout(page, *names):
    """Returns numbers of the readout, in full precision."""
    return [float(page.locator(f"#now-{name}").get_attribute("value")) for name in names]


def choose(page, group, name):
    page.locator(f'input[name="{group}"][value="{name}"]').check()


def fill(page, **fields):
    for name, value in fields.items():
        page.locator(f"#{name}").fill(str(value))


def message_with(page, *parts):
    """Waits until the message below the surface has all parts, and returns it."""
    for part in parts:
        page.locator("#message").filter(has_text=part).wait_for()
    return page.locator("#message").inner_text()


def link_with(page, *parts):
    """Waits until the link has all parts, and returns it."""
    page.wait_for_function("parts => parts.every((part) => location.hash.includes(part))", arg=list(parts))
    return page.evaluate("location.hash")


def center_of(locator):
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


# --- the slides ----------------------------------------------------------------------------------------------------


def test_reset_shows_the_start_of_the_slides(open_page):
    page = open_page()
    page.get_by_role("button", name="Reset").click()
    assert readout(page, "step", "first", "second", "loss", "epoch") == [0, -1, 5, 2.5, 0]
    assert readout(page, "rmse") == pytest.approx([2.5**0.5])
    assert readout(page, "first-slope", "second-slope") == [-3, -1]
    assert page.locator("#now-rmse").inner_text() == "1.581"
    assert page.locator("#now-first-slope").inner_text() == "−3"
    message_with(page, "At the start the mean squared error is 2.5.")


def test_one_step_with_learning_rate_0_1(open_page):
    page = open_page("#steps=20&at=0")
    fill(page, rate="0.1")
    page.get_by_role("button", name="One step", exact=True).click()
    assert readout(page, "step", "first", "second") == pytest.approx([1, -0.7, 5.1])
    # by hand: m + b = 4.4 for 3, 2 m + b = 3.7 for 5
    assert readout(page, "loss") == pytest.approx([(1.4**2 + 1.3**2) / 2])
    message_with(page, "After 1 step the mean squared error fell from 2.5 to 1.825")


def test_the_example_button_of_one_step(open_page):
    page = open_page("#surface=long_valley&optimizer=adam")
    page.get_by_role("button", name="One step at 0.1").click()
    assert readout(page, "step", "first", "second") == pytest.approx([1, -0.7, 5.1])
    assert page.locator("#shown").get_attribute("max") == "1"


@pytest.mark.parametrize("way", ["typed", "preset", "slider"])
def test_a_learning_rate_of_2_diverges_and_is_explained(open_page, way):
    page = open_page()
    if way == "typed":
        fill(page, rate="2")
    elif way == "preset":
        page.get_by_role("button", name="Learning rate 2 diverges").click()
    else:
        page.locator("#rate-slider").fill("0.3")  # 10^0.3 is 2; the slider goes from 10^-4 to 10^1
    greatest = np.linalg.eigvalsh([[5, 3], [3, 2]]).max()
    text = message_with(
        page, "Diverged at step 3", "learning rate 2 is too large", f"anything above {2 / greatest:.3f}"
    )
    assert "more than a million times the 2.5 of the start" in text
    assert page.locator("#message").get_attribute("class") == "diverged"
    m, b = -1.0, 5.0
    for _ in range(3):
        m, b = m - 2 * (5 * m + 3 * b - 13), b - 2 * (3 * m + 2 * b - 8)
    assert readout(page, "step", "first", "second") == pytest.approx([3, m, b])


def test_the_stated_learning_rate_limit_is_right(open_page):
    page = open_page("#steps=1000&rate=0.291")
    message_with(page, "After 1,000 steps the mean squared error fell")
    fill(page, rate="0.3")
    message_with(page, "Diverged", "anything above 0.292")


@pytest.mark.parametrize(
    ("link", "parts"),
    [
        ("surface=ten_points&rate=0.1", ["anything above 0.0342"]),
        ("surface=ten_points&rate=0.1&batch=1", ["anything above 0.0342 is with all points", "less with batches"]),
        ("surface=two_points&optimizer=momentum&rate=2", [f"{2 * 1.9 / 6.8541:.3f}"]),
        ("surface=several_minima&rate=1", ["the global minimum the limit is 0.0578"]),
        ("surface=curved_valley&optimizer=adam&rate=9000", ["a step of Adam is about as long", "only 4 wide"]),
        ("surface=two_points&rate=1e300", ["no longer a finite number"]),
    ],
)
def test_each_kind_of_divergence_is_explained(open_page, link, parts):
    message_with(open_page(f"#{link}"), "Diverged at step", *parts)


def test_learning_rate_0_001_is_slow(open_page):
    page = open_page()
    page.get_by_role("button", name="Learning rate 0.001 is slow").click()
    matrix = np.array([[5, 3], [3, 2]])
    point = np.array([2, 1]) + np.linalg.matrix_power(np.eye(2) - 0.001 * matrix, 50) @ [-3, 4]
    assert readout(page, "step", "first", "second") == pytest.approx([50, *point])
    assert readout(page, "loss")[0] > 1.5


@pytest.mark.parametrize("name", ["Batch size 1", "Momentum in the long valley"])
def test_the_other_examples_reduce_the_loss(open_page, name):
    page = open_page()
    page.get_by_role("button", name=name).click()
    message_with(page, "fell from")


@pytest.mark.parametrize(
    ("start", "part"),
    [
        ("-3,-3", "It is at the global minimum, (−2.9, −2.9)."),
        ("3,3", "It is at the local minimum (2.75, 2.75); the global one is (−2.9, −2.9)."),
    ],
)
def test_the_minimum_that_is_reached_is_named(open_page, start, part):
    message_with(open_page(f"#surface=several_minima&start={start}&steps=200"), part)


# --- the controls --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*lines.STARTS, *SURFACES])
def test_a_chosen_surface_sets_its_start_and_its_controls(open_page, name):
    page = open_page("#surface=curved_valley" if name == "two_points" else "")
    choose(page, "surface", name)
    page.get_by_role("button", name="Reset").click()
    assert readout(page, "first", "second") == list((lines.STARTS | {n: s.start for n, s in SURFACES.items()})[name])
    is_line = name in lines.STARTS
    assert page.locator("#line-chart").is_visible() == is_line
    assert page.locator("#batch").is_enabled() == is_line
    assert page.locator("#seed").is_disabled()
    hint = page.locator("#batch-hint").inner_text()
    assert ("without data, so there are no batches" in hint) != is_line
    assert page.locator("#drawing .minimum:not(.casing)").count() == (4 if name == "several_minima" else 1)


def test_the_optimizer_changes_the_path(open_page):
    page = open_page("#surface=long_valley")
    ends = set()
    for name in ("sgd", "momentum", "adagrad", "rmsprop", "adam"):
        choose(page, "optimizer", name)
        ends.add(tuple(readout(page, "first", "second")))
        assert page.locator("#optimizer-hint").inner_text().endswith(".")
    assert len(ends) == 5


def test_batches_and_their_seed(open_page):
    page = open_page("#surface=ten_points&rate=0.002&steps=40")
    smooth = readout(page, "first")
    page.locator("#batch-slider").fill("4")
    assert page.locator("#batch").input_value() == "4"
    assert readout(page, "epoch") == [13]  # 40 steps of 3 an epoch
    assert "takes 3 steps: 13.3 in all" in page.locator("#steps-hint").inner_text()
    assert page.locator("#loss-chart .batch-mark").count() == 40
    assert page.locator("#line-chart .sample.idle").count() == 6
    first = readout(page, "first")
    fill(page, seed=1)
    second = readout(page, "first")
    assert len({*smooth, *first, *second}) == 3


def test_changing_a_setting_keeps_the_shown_step(open_page):
    page = open_page("#at=7")
    fill(page, rate="0.2")
    assert readout(page, "step") == [7]
    fill(page, steps="5")
    assert readout(page, "step") == [5]
    fill(page, steps="60")
    assert readout(page, "step") == [60], "the last step stays the last step"


def test_the_step_slider_shows_any_step(open_page):
    page = open_page()
    page.locator("#shown").fill("13")
    assert readout(page, "step") == [13]
    assert page.locator("#shown").get_attribute("aria-valuetext") == "step 13 of 50"


def test_play_pause_and_play_to_the_end(open_page):
    page = open_page("#steps=30&at=0")
    button = page.locator("#play")
    button.click()
    assert button.inner_text() == "Pause"
    page.wait_for_function("() => Number(document.getElementById('now-step').value) >= 2")
    button.click()
    assert button.inner_text() == "Play"
    (step,) = readout(page, "step")
    assert 2 <= step < 30
    page.wait_for_timeout(400)
    assert readout(page, "step") == [step]
    page.locator("#shown").fill("27")
    button.click()
    page.wait_for_function("() => document.getElementById('play').textContent === 'Play'")
    assert readout(page, "step") == [30]
    page.get_by_role("button", name="One step", exact=True).click()
    assert readout(page, "step") == [1], "after the last step it starts again"


def test_play_shows_the_end_at_once_with_reduced_motion(open_page):
    page = open_page("#at=0&steps=100", reduced_motion="reduce")
    page.locator("#play").click()
    assert readout(page, "step") == [100]
    assert page.locator("#play").inner_text() == "Play"


def test_the_table_lists_the_steps(open_page):
    page = open_page("#steps=12")
    page.locator("summary").click()
    expected = page.evaluate("keras_course.descend({surface: 'two_points', steps: 12})")

    def rows():
        return page.locator("#table tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.querySelectorAll('data')].map(cell => Number(cell.value)))"
        )

    page.locator("#table tbody tr").nth(12).wait_for()
    table = np.array(rows())
    np.testing.assert_array_equal(table[:, 0], range(13))
    np.testing.assert_array_equal(table[:, 1:3], expected["path"])
    np.testing.assert_array_equal(table[:, 3], expected["losses"])
    np.testing.assert_array_equal(table[:, 5:], expected["gradients"])
    titles = ["Step", "m", "b", "MSE", "RMSE", "∂/∂m", "∂/∂b"]
    assert page.locator("#table thead th").all_inner_texts() == titles
    page.get_by_role("button", name="Reset").click()
    page.wait_for_function("() => document.querySelectorAll('#table tbody tr').length === 1")
    page.get_by_role("button", name="One step", exact=True).click()
    page.wait_for_function("() => document.querySelectorAll('#table tbody tr').length === 2")
    np.testing.assert_array_equal(rows(), table[:2])


# --- wrong numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("rate", "0", "Learning rate is 0: give a number above 0. Shown is 0.1."),
        ("rate", "-1", "Learning rate is −1: give a number above 0."),
        ("rate", "", "Learning rate is no number: give a number above 0."),
        ("batch", "3", "Batch size is 3: give a whole number from 1 to 2. Shown is 2."),
        ("batch", "1.5", "Batch size is 1.5: give a whole number from 1 to 2."),
        ("steps", "0", "Steps is 0: give a whole number from 1 to 1000."),
        ("steps", "1001", "Steps is 1,001: give a whole number from 1 to 1000."),
        ("first", "99", "Start m is 99: give a number from −3.25 to 4.25. Shown is −1."),
        ("second", "-9", "Start b is −9: give a number from −2 to 8. Shown is 5."),
    ],
)
def test_an_invalid_number_is_explained_and_changes_nothing(open_page, field, value, said):
    page = open_page()
    before = page.locator("#readout").inner_text()
    fill(page, **{field: value})
    assert said in page.locator(f"#{field}-error").inner_text()
    assert page.locator(f"#{field}").get_attribute("aria-invalid") == "true"
    assert page.locator(f"#{field}").get_attribute("aria-describedby").startswith(f"{field}-error")
    assert page.locator("#readout").inner_text() == before
    page.get_by_role("button", name="One step at 0.1").click()
    assert page.locator(f"#{field}-error").inner_text() == ""
    assert page.locator(f"#{field}").get_attribute("aria-invalid") == "false"


def test_an_invalid_seed_is_explained(open_page):
    page = open_page("#batch=1")
    fill(page, seed="-1")
    assert "Seed is −1: give a whole number from 0 to 4294967295" in page.locator("#seed-error").inner_text()


def test_a_number_is_not_reformatted_while_it_is_typed(open_page):
    page = open_page()
    page.locator("#rate").fill("")
    page.locator("#rate").press_sequentially("0.050")
    assert page.locator("#rate").input_value() == "0.050"
    assert page.locator("#rate-error").inner_text() == ""
    assert readout(page, "step") == [50]


@pytest.mark.parametrize(("field", "up", "down"), [("rate", 0.11, 0.09), ("first", -0.95, -1.05), ("batch", 2, 1)])
def test_the_arrow_keys_change_a_number_by_a_small_step(open_page, field, up, down):
    for key, value in (("ArrowUp", up), ("ArrowDown", down)):
        page = open_page()
        page.locator(f"#{field}").press(key)
        assert float(page.locator(f"#{field}").input_value()) == value
        link_with(page, f"={value}")


# --- pointer and keyboard ------------------------------------------------------------------------------------------


def pixel_of(page, m, b):
    """Returns the pixel of a point of the two-points surface, which shows m from -3.25 to 4.25 and b from -2 to 8."""
    box = page.locator("#ground").bounding_box()
    return box["x"] + box["width"] * (m + 3.25) / 7.5, box["y"] + box["height"] * (8 - b) / 10


def test_the_handle_is_at_the_start(open_page):
    page = open_page()
    assert center_of(page.locator("#handle")) == pytest.approx(pixel_of(page, -1, 5), abs=1)
    page.set_viewport_size({"width": 800, "height": 700})
    page.wait_for_function("() => document.getElementById('ground').offsetWidth < 400")
    assert center_of(page.locator("#handle")) == pytest.approx(pixel_of(page, -1, 5), abs=1)


def test_the_start_is_dragged_with_the_mouse(open_page):
    page = open_page("#at=0")
    x, y = center_of(page.locator("#handle"))
    page.mouse.move(x + 4, y - 3)  # not exactly in its center
    page.mouse.down()
    assert readout(page, "first", "second") == [-1, 5], "it does not jump when it is grabbed"
    page.mouse.move(*pixel_of(page, 0, 3))
    page.mouse.move(*np.add(pixel_of(page, 3, 0), (4, -3)))
    assert readout(page, "first", "second") == pytest.approx([3, 0], abs=0.03)
    page.mouse.move(*pixel_of(page, 9, -9))
    assert readout(page, "first", "second") == [4.25, -2], "it stays on the map"
    page.mouse.up()
    page.mouse.move(*pixel_of(page, 0, 0))
    assert readout(page, "first", "second") == [4.25, -2]
    assert page.locator("#first").input_value() == "4.25"


def test_a_click_moves_the_start(open_page):
    page = open_page("#at=0")
    page.mouse.click(*pixel_of(page, 1, 6))
    assert readout(page, "first", "second") == pytest.approx([1, 6], abs=0.03)


def test_the_start_is_dragged_with_a_finger_and_the_page_still_scrolls(open_page):
    page = open_page("#at=0", **PHONE)
    touch = page.context.new_cdp_session(page)

    def finger(kind, *point):
        points = [{"x": point[0], "y": point[1]}] if point else []
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    finger("touchStart", *center_of(page.locator("#handle")))
    for share in (0.3, 0.7, 1):
        finger("touchMove", *pixel_of(page, -1 + 3 * share, 5 - 4 * share))
    finger("touchEnd")
    assert readout(page, "first", "second") == pytest.approx([2, 1], abs=0.05)
    assert page.evaluate("scrollY") == 0
    page.touchscreen.tap(*pixel_of(page, 3, 6))
    assert readout(page, "first", "second") == pytest.approx([3, 6], abs=0.05)
    assert page.locator("#ground").evaluate("node => getComputedStyle(node).touchAction") == "auto"


def test_the_start_is_moved_by_the_arrow_keys(open_page):
    page = open_page("#at=0")
    handle = page.locator("#handle")
    handle.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    assert readout(page, "first", "second") == [-0.9, 4.9]  # steps of 0.05 and 0.1: a hundredth of the picture or less
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("Shift+ArrowLeft")
    assert readout(page, "first", "second") == [-1.4, 5.9]
    assert handle.get_attribute("aria-valuetext") == "m = −1.4, b = 5.9"
    for _ in range(20):
        page.keyboard.press("Shift+ArrowUp")
    assert readout(page, "second") == [8], "it stays on the map"


def focusables(page):
    return page.evaluate(
        """() => [...document.querySelectorAll('button, input, summary, [tabindex="0"]')]
          .filter((node) => !node.disabled && node.checkVisibility() && (node.type !== 'radio' || node.checked))
          .map((node) => node.id || node.value || node.textContent)"""
    )


def test_tab_reaches_every_control_with_a_visible_focus(open_page):
    page = open_page("#batch=1")
    expected = focusables(page)
    reached = []
    for _ in expected:
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            """() => {
              const node = document.activeElement;
              const style = getComputedStyle(node.type === 'radio' ? node.parentElement : node);
              return [node.id || node.value || node.textContent, [style.outlineStyle, parseFloat(style.outlineWidth)]];
            }"""
        )
        reached.append(name)
        assert outline == ["solid", 3], name
    assert reached == expected, "in the order of the page"
    assert {"handle", "play", "one-step", "reset", "shown", "rate", "batch", "steps", "first", "second", "seed"} <= {
        *reached
    }


def test_the_page_can_be_used_with_the_keyboard_alone(open_page):
    page = open_page("#at=0")
    page.locator('input[name="surface"]:checked').focus()
    page.keyboard.press("ArrowRight")
    assert page.locator('input[name="surface"]:checked').input_value() == "ten_points"
    page.locator('input[name="optimizer"]:checked').focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator('input[name="optimizer"]:checked').input_value() == "adam"
    page.locator("#one-step").focus()
    page.keyboard.press("Enter")
    assert readout(page, "step") == [1]
    page.locator("summary").focus()
    page.keyboard.press("Space")
    page.locator("#table").wait_for()


# --- accessibility, small screens ----------------------------------------------------------------------------------


def test_controls_have_accessible_names_and_messages_are_announced(open_page):
    page = open_page()
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, [role], fieldset, section, form')]
          .filter((node) => !node.matches('[role=alert], [role=status]')) // these speak when there is something to say
          .filter((node) => !(node.ariaLabel || node.labels?.length || node.textContent.trim()
            || document.getElementById(node.getAttribute('aria-labelledby') ?? '')))
          .map((node) => node.outerHTML)"""
    )
    assert nameless == []
    assert page.locator("#message").get_attribute("role") == "status"
    assert page.locator("html").get_attribute("lang") == "en"
    for chart, part in (("loss-chart", "2.5 at the start"), ("line-chart", "m = 0.7444")):
        page.wait_for_function(
            "([id, part]) => document.getElementById(id).getAttribute('aria-label').includes(part)", arg=[chart, part]
        )
    handle = page.get_by_role("slider", name="Start", exact=True)
    assert handle.get_attribute("aria-valuenow") == "-1"
    for described in page.locator("[aria-describedby]").all():
        for name in described.get_attribute("aria-describedby").split():
            assert page.locator(f"#{name}").count() == 1


CONTRASTS = """() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (one, other) => {
    const [low, high] = [light(channels(one)), light(channels(other))].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const color = getComputedStyle(node).backgroundColor;
      if (channels(color)[3] !== 0) {
        return color;
      }
    }
    return 'rgb(255, 255, 255)';
  };
  const found = [];
  for (const node of document.querySelectorAll('body *')) {
    const hasText = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    const isSeen = node.checkVisibility() && !node.closest(':disabled, .unseen, script');
    if (!isSeen || !(hasText || node.matches('input[type=number]'))) {
      continue;
    }
    const style = getComputedStyle(node);
    const inSvg = node.namespaceURI.endsWith('svg');
    found.push([node.outerHTML.slice(0, 80), ratio(inSvg ? style.fill : style.color, ground(node)), 4.5]);
    if (node.matches('input[type=number], button:not(.primary)')) {
      found.push([`border of ${node.id}`, ratio(style.borderTopColor, ground(node.parentElement)), 3]);
    }
  }
  for (const line of document.querySelectorAll('.loss-line, .batch-mark, .now-line, .start-line, .error-line')) {
    found.push([line.getAttribute('class'), ratio(getComputedStyle(line).stroke, ground(line)), 3]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_contrast_is_sufficient(open_page, scheme):
    page = open_page("#surface=ten_points&batch=3&rate=1", color_scheme=scheme, reduced_motion="reduce")
    message_with(page, "Diverged")
    page.locator("summary").click()
    fill(page, rate="0")
    page.locator("#table tbody tr").first.wait_for()
    found = page.evaluate(CONTRASTS)
    assert len(found) > 80
    assert {name for name, _, _ in found} >= {"loss-line", "batch-mark", "start-line", "border of rate"}
    assert [entry for entry in found if entry[1] < entry[2]] == []
    red = int(re.match(r"rgb\((\d+)", page.locator("body").evaluate("n => getComputedStyle(n).backgroundColor"))[1])
    assert red > 230 if scheme == "light" else red < 30


@pytest.mark.parametrize("name", [*lines.STARTS, *SURFACES])
def test_nothing_overflows_on_a_phone(open_page, name):
    page = open_page(f"#surface={name}&batch=1&rate=7", **PHONE)
    message_with(page, "Diverged")
    page.locator("summary").click()
    fill(page, rate="0", first="1e9")
    width = page.evaluate("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)")
    assert width == 360
    over = page.evaluate(
        """() => [...document.querySelectorAll('body *')]
          .filter((node) => node.checkVisibility() && !node.closest('nav, .scroll, .unseen, #descent'))
          .filter((node) => node.getBoundingClientRect().right > 360
            || (node.matches('h1, h2, p, dt, dd, button, label, legend') && node.scrollWidth > node.clientWidth + 1))
          .map((node) => node.outerHTML.slice(0, 100))"""
    )
    assert over == []


def test_controls_are_large_enough_for_a_finger_on_a_phone(open_page):
    page = open_page("#batch=1", **PHONE)
    small = page.evaluate(
        """() => [...document.querySelectorAll('button, input, .chips label, summary, #handle')]
          .filter((node) => node.checkVisibility())
          .map((node) => [node.id || node.textContent, node.getBoundingClientRect()])
          .filter(([, box]) => box.height < 38 || box.width < 38)
          .map(([name, box]) => [name, box.width, box.height])"""
    )
    assert small == []


def test_the_surface_stays_visible_beside_the_settings_on_a_phone(open_page):
    page = open_page(**PHONE)
    page.locator("#rate-slider").evaluate("node => node.scrollIntoView({block: 'end'})")
    top = page.locator("#stage").bounding_box()["y"]
    bottom = top + page.locator("#stage").bounding_box()["height"]
    assert top == pytest.approx(0, abs=1)
    assert bottom < page.locator("#rate-slider").bounding_box()["y"]
    page.keyboard.press("Tab")
    page.locator("#rate").focus()
    assert page.locator("#rate").bounding_box()["y"] >= bottom - 1


def test_surface_settings_and_numbers_fit_on_a_desktop_screen(open_page):
    page = open_page()
    for name in ("ground", "play", "rate", "readout", "loss-chart"):
        box = page.locator(f"#{name}").bounding_box()
        assert box["y"] + box["height"] <= 800, name


def test_the_surface_has_the_colors_of_its_losses(open_page):
    """The color is the first one of viridis at the minimum and its last one in the farthest corner."""
    page = open_page()
    low, high = page.evaluate(
        """() => {
          const canvas = document.getElementById('ground');
          const [width, height] = [canvas.width, canvas.height];
          const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
          const at = (x, y) => [...data.slice(4 * (y * width + x), 4 * (y * width + x) + 3)];
          return [at(Math.round(width * 5.25 / 7.5), Math.round(height * 0.7)), at(width - 2, 2)];
        }"""
    )
    assert low == pytest.approx([0x44, 0x01, 0x54], abs=2)
    assert high == pytest.approx([0xFD, 0xE7, 0x25], abs=2)


def test_the_path_is_drawn_at_its_parameters(open_page):
    page = open_page("#steps=2&rate=0.1")
    frame = page.locator("#stage").bounding_box()
    d = page.locator("#descent .path:not(.casing)").get_attribute("d")
    drawn = np.add(np.array(re.findall(r"[ML](\S+) ([\d.]+)", d), float), (frame["x"], frame["y"]))
    path = page.evaluate("keras_course.descend({surface: 'two_points', steps: 2}).path")
    np.testing.assert_allclose(drawn, [pixel_of(page, m, b) for m, b in path], atol=1)


def test_a_diverging_path_is_cut_off(open_page):
    page = open_page("#rate=1e5&steps=50")
    message_with(page, "Diverged")
    numbers = re.findall(r"-?[\d.]+(?:e[+-]?\d+)?", page.locator("#descent .path").first.get_attribute("d"))
    assert len(numbers) == 4
    assert max(map(abs, map(float, numbers))) < 2e4


def test_a_path_that_returns_from_far_outside_is_drawn_to_its_end(open_page):
    page = open_page("#optimizer=adagrad&rate=300&steps=2")
    frame = page.locator("#stage").bounding_box()
    out, back = page.locator("#descent .path:not(.casing)").get_attribute("d").split("M")[1:]
    (first, second), (third, fourth) = (
        [np.array(pair.split(), float) for pair in part.split("L")] for part in (out, back)
    )
    path = page.evaluate(
        "keras_course.descend({surface: 'two_points', optimizer: 'adagrad', rate: 300, steps: 2}).path"
    )
    pixels = [np.subtract(pixel_of(page, m, b), (frame["x"], frame["y"])) for m, b in path]
    np.testing.assert_allclose([first, fourth], [pixels[0], pixels[2]], atol=1)
    for near, cut in ((first, second), (fourth, third)):
        assert np.hypot(*(cut - near)) == pytest.approx(1e4, rel=1e-3)
        np.testing.assert_allclose((cut - near) / 1e4, (pixels[1] - near) / np.hypot(*(pixels[1] - near)), atol=1e-3)


# --- links ---------------------------------------------------------------------------------------------------------


def test_a_link_restores_all_settings(open_page):
    page = open_page()
    choose(page, "surface", "ten_points")
    choose(page, "optimizer", "adam")
    fill(page, rate="0.7", batch="3", steps="77", seed="5", first="-3.5", second="20")
    page.locator("#shown").fill("33")
    link = link_with(page, "at=33", "start=-3.5,20", "seed=5")
    other = open_page(link)
    assert other.locator("#readout").inner_text() == page.locator("#readout").inner_text()
    for name in ("rate", "batch", "steps", "seed", "first", "second"):
        assert other.locator(f"#{name}").input_value() == page.locator(f"#{name}").input_value()
    for group, value in (("surface", "ten_points"), ("optimizer", "adam")):
        assert other.locator(f'input[name="{group}"]:checked').input_value() == value
    assert link_with(other, "at=33") == link


def test_an_edited_link_is_applied(open_page):
    page = open_page()
    page.evaluate("location.hash = '#surface=curved_valley&at=4'")
    page.locator("#now-step").filter(has_text="4").wait_for()
    assert page.locator('input[name="surface"]:checked').input_value() == "curved_valley"


def test_invalid_settings_in_a_link_are_named_and_ignored(open_page):
    page = open_page("#surface=hill&optimizer=constructor&rate=fast&batch=0&steps=1e9&seed=-2&start=1&at=x")
    text = page.locator("#link-error").inner_text()
    assert text.endswith("ignored: surface, optimizer, rate, batch, steps, seed, start, at.")
    assert readout(page, "step", "loss")[0] == 50
    assert page.locator("#rate").input_value() == "0.1"
    fill(page, rate="0.2")
    assert page.locator("#link-error").inner_text() == ""
