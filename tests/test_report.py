"""The report of a run, parsed with the standard library."""

import base64
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from keras_course import plots, report
from keras_course.errors import CourseError

METRICS: dict[str, Any] = {
    "lesson": "04_mnist_dense",
    "data": "mnist",
    "accuracy": 0.98134,
    "loss": 0.0669123,
    "parameters": 669706,
    "seconds": 125.4,
    "steps_per_second": 1247.4,
    "seed": 20260101,
    "backend": "jax",
    "device": "cpu",
    "precision": "float32",
    "versions": {"keras": "3.15.1", "jax": "0.10.2"},
}
HISTORY = "epoch,loss,accuracy,val_loss,val_accuracy,seconds\n1,0.25,0.93,0.125,0.965,8.94\n2,0.0625,0.97,,,8.5\n"
VOID = {"meta", "link", "img", "source"}


class Page(HTMLParser):
    """Collects the texts of elements, and checks that they are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str]]] = []
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.stack: list[int] = []
        self.feed(text)
        self.close()
        assert not self.stack, "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))
        if tag not in VOID:
            self.stack.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self.stack.pop()][0] == tag, f"{tag} is closed out of order"

    def handle_data(self, data: str) -> None:
        for index in self.stack:
            self.elements[index][2].append(data)

    def texts(self, tag: str) -> list[str]:
        return ["".join(parts).strip() for name, _, parts in self.elements if name == tag]

    def attributes(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes, _ in self.elements if name == tag]

    def rows(self) -> list[list[str]]:
        """Returns the cells of each row of all tables."""
        rows: list[list[str]] = []
        for tag, _, parts in self.elements:
            if tag == "tr":
                rows.append([])
            elif tag in ("th", "td"):
                rows[-1].append("".join(parts))
        return rows


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    folder.joinpath("metrics.json").write_text(json.dumps(METRICS), encoding="utf-8")
    folder.joinpath("history.csv").write_text(HISTORY, encoding="utf-8")
    plots.save(plots.step_curve([2.0, 1.0]), folder / "figures" / "step_curve.png")
    plots.save(plots.step_curve([3.0, 1.0, 2.0]), folder / "figures" / "another.png")
    return folder


def page_of(run: Path, **arguments: Any) -> Page:
    return Page(report.write_report(run, title="Digits", **arguments).read_text(encoding="utf-8"))


def test_write_report_adds_only_the_report(run: Path) -> None:
    before = sorted(path.name for path in run.iterdir())
    assert report.write_report(str(run), title="Digits") == run / "report.html"
    assert sorted(path.name for path in run.iterdir()) == sorted([*before, "report.html"])


def test_metrics_are_formatted_for_readers(run: Path) -> None:
    page = page_of(run)
    rows = page.rows()
    for row in (
        ["accuracy", "98.13 %"],
        ["loss", "0.0669"],
        ["parameters", "669,706"],
        ["training time", "2 min 5 s"],
        ["steps per second", "1,247"],
        ["seed", "20260101"],  # an identifier without commas
        ["backend", "jax"],
        ["versions", "keras 3.15.1, jax 0.10.2"],
    ):
        assert row in rows
    summary = "98.13 % accuracy · 669,706 parameters · trained in 2 min 5 s with jax on cpu"
    assert summary in page.texts("p")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 0 min"),
        (7261, "2 h 1 min"),
    ],
)
def test_durations_never_show_sixty_seconds(run: Path, seconds: float, expected: str) -> None:
    run.joinpath("metrics.json").write_text(json.dumps({"seconds": seconds}))
    assert ["training time", expected] in page_of(run).rows()


def test_unknown_metrics_are_shown_unchanged(run: Path) -> None:
    metrics = {"rmse": 1.5811388, "val_loss": 1e-5, "compiled": True, "note": None, "filters": [25, 50], "loss": 1e400}
    run.joinpath("metrics.json").write_text(json.dumps(metrics))
    rows = page_of(run).rows()
    for row in (
        ["root mean squared error", "1.5811"],
        ["validation loss", "1e-05"],
        ["compiled", "yes"],
        ["note", "–"],
        ["filters", "25, 50"],
        ["loss", "inf"],
    ):
        assert row in rows


def test_the_report_of_a_regression_names_its_loss(run: Path) -> None:
    metrics = {
        "loss": 14.876,
        "val_loss": 20.5,
        "loss_name": "mean squared error",
        "rmse": 3.857,
        "m": 5.1212,
        "b": 2.0,
    }
    run.joinpath("metrics.json").write_text(json.dumps({**metrics, "parameters": 2}))
    page = page_of(run)
    assert page.texts("p")[0] == "root mean squared error 3.8570 · 2 parameters"
    rows = page.rows()
    assert rows[:6] == [
        ["mean squared error", "14.8760"],
        ["validation mean squared error", "20.5000"],
        ["root mean squared error", "3.8570"],
        ["slope m", "5.1212"],
        ["intercept b", "2.0000"],
        ["parameters", "2"],
    ]
    assert "loss name" not in [row[0] for row in rows]
    assert "How it was made" not in page.texts("h2")


def test_a_diverged_run_has_a_report(run: Path) -> None:
    run.joinpath("metrics.json").write_text('{"accuracy": NaN, "seconds": Infinity, "parameters": 12}')
    page = page_of(run)
    assert "12 parameters" in page.texts("p")
    assert ["accuracy", "–"] in page.rows()
    assert ["training time", "inf"] in page.rows()


def test_a_run_without_metrics_has_a_report(run: Path) -> None:
    run.joinpath("metrics.json").write_text("{}")
    page = page_of(run)
    assert page.texts("h1") == ["Digits"]
    assert page.texts("h2") == ["Figures", "Epochs"]


def test_the_table_of_epochs(run: Path) -> None:
    rows = page_of(run).rows()
    start = rows.index(["epoch", "loss", "accuracy", "validation loss", "validation accuracy", "seconds"])
    assert rows[start + 1] == ["1", "0.2500", "93.00 %", "0.1250", "96.50 %", "8.9"]
    assert rows[start + 2] == ["2", "0.0625", "97.00 %", "–", "–", "8.5"]


def test_figures_are_embedded_in_the_order_of_their_captions(run: Path) -> None:
    page = page_of(run, captions={"step_curve": "The loss of every batch", "another": "Another one"})
    images = page.attributes("img")
    assert [image["alt"] for image in images] == ["The loss of every batch", "Another one"]
    assert page.texts("figcaption") == ["The loss of every batch", "Another one"]
    for image, stem in zip(images, ("step_curve", "another"), strict=True):
        kind, data = image["src"].split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data, validate=True) == (run / "figures" / f"{stem}.png").read_bytes()
    # 8.4 by 4.3 inches at 96 CSS pixels an inch.
    assert (images[0]["width"], images[0]["height"]) == ("806", "413")


def test_without_captions_all_figures_are_shown_by_name(run: Path) -> None:
    assert [image["alt"] for image in page_of(run).attributes("img")] == ["Another", "Step curve"]


def test_an_animation_is_embedded_with_its_size(run: Path) -> None:
    gif = b"GIF89a" + (1500).to_bytes(2, "little") + (500).to_bytes(2, "little") + b"the rest"
    run.joinpath("figures", "descent.gif").write_bytes(gif)
    page = page_of(run, captions={"descent": "The way down", "another": "Another one"})
    assert page.texts("figcaption") == ["The way down", "Another one"]
    image = page.attributes("img")[0]
    assert (image["alt"], image["width"], image["height"]) == ("The way down", "1200", "400")  # 96 for 120 dots an inch
    kind, data = image["src"].split(",")
    assert kind == "data:image/gif;base64"
    assert base64.b64decode(data, validate=True) == gif
    assert not page.attributes("picture")
    assert [image["alt"] for image in page_of(run).attributes("img")] == ["Another", "Descent", "Step curve"]


def test_a_still_replaces_an_animation_with_reduced_motion(run: Path) -> None:
    film = plots.Animation((Image.new("RGB", (30, 20)), Image.new("RGB", (30, 20), "white")), (100, 2000))
    plots.save_animation(film, run / "figures" / "another.gif")
    page = page_of(run, captions={"another": "The way down"})
    assert len(page.attributes("picture")) == len(page.attributes("img")) == 1
    assert page.attributes("img")[0]["src"].startswith("data:image/gif;base64,")
    (source,) = page.attributes("source")
    assert source["media"] == "(prefers-reduced-motion: reduce), print"
    kind, data = source["srcset"].split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data, validate=True) == (run / "figures" / "another.png").read_bytes()
    assert [image["alt"] for image in page_of(run).attributes("img")] == ["Another", "Step curve"]


def test_a_run_without_figures_has_no_figures_section(run: Path) -> None:
    assert "Figures" not in page_of(run, captions={}).texts("h2")


def test_sections_come_before_the_results_in_paragraphs(run: Path) -> None:
    page = page_of(run, sections={"What happened": "One\nline.\n\nAnd  another.\n", "Why": "Because."})
    assert page.texts("h2")[:3] == ["What happened", "Why", "Results"]
    assert {"One line.", "And another.", "Because."} <= set(page.texts("p"))


def test_classes_and_command_are_optional_parts(run: Path) -> None:
    assert not {"Each class", "Command"} & set(page_of(run).texts("h2"))
    per_class = [{"name": "7", "precision": 0.5, "recall": 0.98765, "support": 1028}]
    command = "keras-course run 04 --seed 1 > log"
    run.joinpath("metrics.json").write_text(json.dumps({**METRICS, "per_class": per_class, "command": command}))
    page = page_of(run)
    assert ["7", "50.00 %", "98.77 %", "1,028"] in page.rows()
    assert page.texts("code") == [command]


def test_every_string_is_escaped(run: Path) -> None:
    evil = '<script>alert("1")</script>&amp;\'" onload="x'
    run.joinpath("metrics.json").write_text(
        json.dumps(
            {
                "backend": evil,
                "device": evil,
                evil: evil,
                "versions": {evil: evil},
                "command": evil,
                "per_class": [{"name": evil, "precision": 0, "recall": 0, "support": 0}],
            }
        )
    )
    run.joinpath("history.csv").write_text(f"epoch,loss,<b>{'x'}</b>\n1,2,3\n")
    path = report.write_report(run, title=evil, captions={"another": evil}, sections={evil: evil})
    text = path.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<b>" not in text
    page = Page(text)
    assert page.texts("h1") == page.texts("title") == page.texts("figcaption") == [evil]
    assert [set(image) for image in page.attributes("img")] == [{"src", "alt", "width", "height"}]
    assert page.attributes("img")[0]["alt"] == evil
    assert page.texts("code") == [evil]
    assert [evil, "0.00 %", "0.00 %", "0"] in page.rows()


def test_the_page_has_no_external_resources(run: Path) -> None:
    page = page_of(run)
    tags = {tag for tag, _, _ in page.elements}
    assert not tags & {"script", "iframe", "object", "embed", "form"}
    assert [link["href"] for link in page.attributes("link")] == ["data:,"]
    assert all(image["src"].startswith("data:") for image in page.attributes("img"))
    (style,) = page.texts("style")
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    policies = [meta["content"] for meta in page.attributes("meta") if "http-equiv" in meta]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_the_page_is_fit_for_phones_and_screen_readers(run: Path) -> None:
    page = page_of(run)
    assert page.attributes("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.attributes("meta")
    assert len(page.texts("main")) == len(page.texts("h1")) == 1
    assert all(header["scope"] in ("row", "col") for header in page.attributes("th"))
    scrolling = [box for box in page.attributes("div") if box["class"] == "scroll"]
    assert scrolling == [{"class": "scroll", "role": "region", "aria-label": "Table of epochs", "tabindex": "0"}]


def test_the_same_folder_gives_the_same_bytes(run: Path) -> None:
    first = report.write_report(run, title="Digits").read_bytes()
    assert report.write_report(run, title="Digits").read_bytes() == first


def test_a_failed_write_leaves_the_old_page(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = report.write_report(run, title="Old").read_bytes()
    names = sorted(path.name for path in run.iterdir())

    def full_disk(self: Path, target: Path) -> Path:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        report.write_report(run, title="New")
    assert (run / "report.html").read_bytes() == old
    assert sorted(path.name for path in run.iterdir()) == names


def test_read_history_returns_columns_for_training_curves(run: Path) -> None:
    figure = plots.training_curves(report.read_history(run / "history.csv"))
    assert figure.axes[0].lines[0].get_ydata().tolist() == [0.25, 0.0625]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", None, r"metrics\.json is missing; run the lesson again"),
        ("metrics.json", '{"accuracy": 0.9', r"metrics\.json is not JSON \(line 1: .*\); run the lesson again"),
        ("metrics.json", "[1]", r"metrics\.json holds a list instead of an object"),
        ("metrics.json", b"\xff\xfe", r"metrics\.json is not UTF-8 text"),
        ("metrics.json", '{"per_class": [{"name": "a"}]}', r"metrics\.json has a malformed per_class \(KeyError"),
        ("metrics.json", '{"per_class": 3}', r"metrics\.json has a malformed per_class \(TypeError"),
        ("history.csv", None, r"history\.csv is missing; run the lesson again"),
        ("history.csv", "", r"history\.csv begins with '', not with a header"),
        ("history.csv", "1,2\n", r"history\.csv begins with '1,2', not with a header"),
        ("history.csv", "epoch,loss,loss\n1,2,3\n", r"begins with 'epoch,loss,loss'"),
        ("history.csv", "epoch,loss\n", r"history\.csv has a header and no epoch; train"),
        ("history.csv", "epoch,loss\n1,0.5\n2\n", r"history\.csv has 1 cells in line 3 under 2 names"),
        ("history.csv", "epoch,loss\n1,half\n", r"history\.csv has 'half' as loss in line 2, not a number"),
        ("figures/step_curve.png", None, r"step_curve\.png is missing; draw it with keras_course\.plots\.save"),
        ("figures/step_curve.png", b"GIF89a" + b"0" * 30, r"step_curve\.png is not a PNG picture"),
        ("figures/step_curve.png", b"\x89PNG\r\n\x1a\n", r"step_curve\.png is not a PNG picture"),
        (
            "figures/step_curve.gif",
            b"\x89PNG\r\n\x1a\n" + b"0" * 30,
            r"gif is not a GIF picture; draw it .*save_animation",
        ),
        ("figures/step_curve.gif", b"GIF89a", r"step_curve\.gif is not a GIF picture"),
    ],
)
def test_a_bad_file_is_named(run: Path, name: str, content: str | bytes | None, message: str) -> None:
    path = run / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(CourseError, match=message):
        report.write_report(run, title="Digits", captions={"step_curve": "The loss of every batch"})
    assert not (run / "report.html").exists()
