"""The run of a lesson: its folder, and the files that ``finish`` writes."""

import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from keras_course import plots
from keras_course.errors import CourseError
from keras_course.lesson import Options, open_run
from keras_course.training import RunDirectory

HISTORY = {"epoch": [1, 2], "loss": [0.5, 0.25], "seconds": [0.1, 0.1]}


def line():
    return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])


def test_open_run_names_the_folder_after_the_lesson(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for expected in ("lesson", "lesson-2"):
        with open_run("lesson", Options()) as run:
            assert run.path == Path("runs") / expected
            run.write_history({"epoch": [1]})
    with open_run("lesson", Options(resume=True)) as run:
        assert run.path == Path("runs/lesson-2")
    with open_run("lesson", Options(output=tmp_path / "mine")) as run:
        assert run.path == tmp_path / "mine"
    with pytest.raises(CourseError, match="no run of other"):
        open_run("other", Options(resume=True))


@pytest.mark.parametrize("output", ["runs/lesson", "elsewhere"])
def test_a_folder_with_a_run_is_refused_and_the_default_is_named(tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/lesson", output):
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, "model.keras").write_bytes(b"precious")
    with pytest.raises(CourseError) as error:
        open_run("lesson", Options(output=Path(output)))
    assert str(error.value) == (
        f"output folder {output} holds a run already; add --resume, give another --output, or none: "
        "the lesson then takes runs/lesson-2"
    )
    assert Path(output, "model.keras").read_bytes() == b"precious"
    assert [path.name for path in Path(output).iterdir()] == ["model.keras"]


def test_a_folder_in_use_is_refused_and_the_default_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with RunDirectory("busy"), pytest.raises(CourseError) as error:
        open_run("lesson", Options(output=Path("busy")))
    assert str(error.value) == (
        "output folder busy is in use by another run; give another --output, or none: the lesson then takes runs/lesson"
    )


def test_finish_writes_model_metrics_and_report_with_figures_in_order(tmp_path, capsys):
    run = open_run("lesson", Options(output=tmp_path, seed=7, batch_size=16))
    drawn = plots.step_curve([2.0, 1.0])
    assert run.add_figure("steps", drawn, "The loss of each batch.") is drawn
    film = plots.Animation(tuple(Image.new("RGB", (40, 30), color) for color in ("white", "black")), (100, 100))
    assert run.add_figure("descent", film, "A descent.") is film
    plots.save(plots.step_curve([2.0, 1.0]), run.figures / "before.png")
    model = line()
    page = run.finish(
        model,
        HISTORY,
        title="A line",
        metrics={"loss": 0.25, "rmse": np.float64(0.5)},
        samples=32,
        captions={"before": "Drawn by something else."},
    )
    assert page == tmp_path / "report.html"
    assert capsys.readouterr().out == f"the report is {page}\n"
    assert sorted(path.name for path in run.figures.iterdir()) == [
        "before.png",
        "descent.gif",
        "descent.png",
        "steps.png",
    ]
    text = page.read_text(encoding="utf-8")
    assert re.findall("<figcaption>(.*?)</figcaption>", text) == [
        "The loss of each batch.",
        "A descent.",
        "Drawn by something else.",
    ]
    assert "<h1>A line</h1>" in text
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    expected = {"loss": 0.25, "rmse": 0.5, "parameters": 2, "seed": 7, "epochs": 2, "batch_size": 16, "samples": 32}
    assert expected.items() <= metrics.items()
    assert metrics["command"].startswith("python ")
    opened = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    for weight, saved in zip(model.get_weights(), opened.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, saved)
    RunDirectory(tmp_path, resume=True).close()  # the lock is released


def test_the_report_of_a_run_without_training_has_no_history(tmp_path):
    page = open_run("lesson", Options(output=tmp_path)).finish(line(), title="Not trained", metrics={"right": 3})
    assert "Epochs" not in page.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "metrics.json").read_text())["right"] == 3
    assert not (tmp_path / "history.csv").exists()


def test_finish_writes_a_history_that_fit_has_not_written(tmp_path):
    open_run("lesson", Options(output=tmp_path)).finish(line(), HISTORY, title="Solved", samples=32)
    assert (tmp_path / "history.csv").read_text() == "epoch,loss,seconds\n1,0.5,0.1\n2,0.25,0.1\n"


def test_finish_without_a_model_keeps_the_results(tmp_path):
    run = open_run("lesson", Options(output=tmp_path))
    run.write_json("metrics.json", {"accuracy": 0.5})
    run.finish(history=HISTORY, title="Taken from another run")
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"accuracy": 0.5}
    assert not (tmp_path / "model.keras").exists()
