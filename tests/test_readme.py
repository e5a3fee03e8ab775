"""The README is true: its commands exist, its example runs, and CI runs what it says."""

import doctest
import re
from pathlib import Path

import pytest

from keras_course.lesson import Options

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = re.findall(r"```sh\n(.*?)\n```", README, re.DOTALL)


def test_there_are_two_commands():
    assert len(COMMANDS) == 2
    assert "keras-course run 04_mnist_dense" in COMMANDS[0]
    assert COMMANDS[1].endswith("tox")


def test_ci_runs_the_test_command():
    assert (ROOT / ".ci" / "run").read_text("utf-8").splitlines()[-1] == COMMANDS[1]


@pytest.mark.needs_backend
def test_the_example_runs():
    """The README's Python session, as a doctest."""
    results = doctest.testfile(str(ROOT / "README.md"), module_relative=False, encoding="utf-8")
    assert results.attempted > 5
    assert results.failed == 0


def test_every_lesson_is_in_the_table():
    lessons = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
    assert re.findall(r"^\| (\d\d_\w+) \|", README, re.MULTILINE) == lessons


@pytest.mark.parametrize(
    "option", re.findall(r"--([a-z][a-z-]+)", README.partition("| option |")[2].partition("## ")[0])
)
def test_every_option_exists(option):
    assert option.replace("-", "_") in Options.__dataclass_fields__


@pytest.mark.parametrize("path", re.findall(r"`((?:examples|data_scripts|tests|benchmarks)/\w+\.py)", README))
def test_every_file_exists(path):
    assert (ROOT / path.replace("NN_name", "04_mnist_dense")).exists()
