"""README and docs/: their commands and links exist, examples run, and numbers are right."""

import configparser
import csv
import dataclasses
import doctest
import itertools
import re
import tomllib
from pathlib import Path

import pytest
import typer.main

from keras_course.cli import app
from keras_course.lesson import MODELS, Options

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = re.findall(r"```sh\n(.*?)\n```", README, re.DOTALL)
PAGES = {
    str(path.relative_to(ROOT)): path.read_text("utf-8")
    for path in (*(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")), *ROOT.glob("docs/*.md"))
}
PROGRAM = typer.main.get_command(app)
LESSONS = sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))
OPTIONS = {f"--{name.replace('_', '-')}" for name in (*Options.__dataclass_fields__, "debug")}
TOX = configparser.ConfigParser(interpolation=None)
TOX.read(ROOT / "tox.ini", encoding="utf-8")


def matches_in_pages(pattern):
    """Returns test parameters: the matches of a pattern in all pages."""
    return [
        pytest.param(*(found if isinstance(found, tuple) else (found,)), id=f"{name}: {found}")
        for name, text in PAGES.items()
        for found in dict.fromkeys(re.findall(pattern, text, re.MULTILINE))
    ]


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_the_readme_has_two_blocks_of_commands():
    assert len(COMMANDS) == 2
    assert "keras-course run 04_mnist_dense" in COMMANDS[0]
    assert COMMANDS[1].endswith("tox")


def test_ci_runs_the_test_command():
    assert (ROOT / ".ci" / "run").read_text("utf-8").splitlines()[-1] == COMMANDS[1]


@pytest.mark.needs_backend
def test_the_example_of_the_readme_runs():
    results = doctest.testfile(str(ROOT / "README.md"), module_relative=False, encoding="utf-8")
    assert results.attempted > 5
    assert results.failed == 0


@pytest.mark.needs_backend
@pytest.mark.one_backend
@pytest.mark.parametrize("name", [name for name, text in PAGES.items() if ">>>" in text and name != "README.md"])
def test_the_examples_of_the_docs_run(name):
    results = doctest.testfile(str(ROOT / name), module_relative=False, encoding="utf-8")
    assert results.attempted > 2
    assert results.failed == 0


def test_every_lesson_is_in_the_table():
    assert re.findall(r"^\| (\d\d_\w+) \|", README, re.MULTILINE) == [path.stem for path in LESSONS]


def test_the_table_has_exactly_the_options_of_lessons():
    table = PAGES["docs/command_line.md"].partition("| option |")[2].partition("## ")[0]
    assert sorted(re.findall(r"^\| `(--[a-z-]+)`", table, re.MULTILINE)) == sorted(OPTIONS)
    assert all(f"`{value}`" in table for value in MODELS)


def test_every_command_is_in_the_table():
    named = re.findall(r"^\| `keras-course ([a-z-]+)", PAGES["docs/command_line.md"], re.MULTILINE)
    assert sorted(named) == sorted(PROGRAM.commands)


def options_of(command):
    return {option for parameter in PROGRAM.commands[command].params for option in parameter.opts}


@pytest.mark.parametrize(("command", "rest"), matches_in_pages(r"keras-course ([a-z-]+)((?: +(?![#&|])[^\s`]+)*)"))
def test_a_command_exists_with_its_options(command, rest):
    words = rest.split()
    options = {word for word in words if re.match(r"--[a-z]", word)}
    if command == "run":
        known, name = OPTIONS, words[0] if words else "LESSON"
        assert name == "LESSON" or any(path.stem == name or str(int(path.stem[:2])) == name for path in LESSONS)
    else:
        known = options_of(command)
    assert options <= known


@pytest.mark.parametrize("extra", matches_in_pages(r'"\.\[([a-z-]+)\]"'))
def test_an_extra_exists(extra):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert extra in project["optional-dependencies"]


@pytest.mark.parametrize("environment", matches_in_pages(r"tox -e ([a-z-]+)"))
def test_an_environment_of_tox_exists(environment):
    names = {name.strip() for name in TOX["tox"]["env_list"].split(",")}
    names |= {section.partition(":")[2] for section in TOX.sections() if section.startswith("testenv:")}
    assert environment in names


def test_contributing_names_every_tox_environment():
    for name in TOX["tox"]["env_list"].split(","):
        assert f"`tox -e {name.strip()}`" in PAGES["CONTRIBUTING.md"]


@pytest.mark.parametrize(
    "path", matches_in_pages(r"\b((?:examples|data_scripts|tests|benchmarks|docs|keras_course)/[\w/]+\.\w+)")
)
def test_every_file_exists(path):
    assert (ROOT / path.replace("NN_name", "04_mnist_dense")).exists()


def anchor(heading):
    """Returns GitHub's anchor of a heading."""
    return re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("name", PAGES)
def test_every_link_has_a_target(name):
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", PAGES[name]):
        path, _, place = target.partition("#")
        page = (ROOT / name).parent / path if path else ROOT / name
        assert page.exists(), target
        if place:
            assert place in map(anchor, re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)), target


@pytest.mark.parametrize("name", PAGES)
def test_lines_outside_of_tables_are_short(name):
    assert not [line for line in PAGES[name].splitlines() if len(line) > 120 and not line.startswith("|")]


def test_every_page_of_the_docs_is_linked_from_the_readme():
    linked = set(re.findall(r"\]\((docs/\w+\.md)\)", README))
    assert linked == {name for name in PAGES if name.startswith("docs/")}


def test_the_stated_difference_of_the_curves_is_right():
    with (ROOT / "docs" / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    pairs = itertools.combinations(("jax", "tensorflow", "torch"), 2)
    largest = max(abs(float(row[one]) - float(row[other])) for one, other in pairs for row in rows)
    [(steps, said)] = re.findall(
        r"Over (\d+) steps\s+the\s+losses\s+of\s+two\s+backends\s+differ\s+by\s+at\s+most (\de-\d)", README
    )
    assert (len(rows), f"{largest:.0e}".replace("e-0", "e-")) == (int(steps), said)


@pytest.mark.needs_backend
@pytest.mark.one_backend
def test_the_library_page_names_every_transform():
    from keras_course import augmentation

    base = augmentation.Flip.__mro__[-2]  # the base class of all transforms
    transforms = {
        name
        for name, one in vars(augmentation).items()
        if isinstance(one, type) and issubclass(one, base) and dataclasses.fields(one)
    }
    said = re.search(r"There are (\w+) transforms: (.*?)\.\n", PAGES["docs/library.md"], re.DOTALL)
    assert set(re.findall(r"`(\w+)`", said[2])) == transforms
    assert (said[1], len(transforms)) == ("fourteen", 14)


@pytest.mark.needs_backend
@pytest.mark.one_backend
def test_the_limits_in_the_docs_equal_the_code():
    from keras_course.assessment import MOST_MEBIBYTES, MOST_SECONDS, PASS_MARK
    from keras_course.deployment import connections, guard, isolation

    limits, alone = guard.RequestLimits(), isolation.ProcessLimits()
    for page, said in {
        "docs/deployment.md": (
            f"{limits.body_bytes // 2**20} MiB; {limits.pictures} pictures of up to {limits.pixels // 10**6} million",
            f"or {limits.rows:,} prepared ones",
            f"{connections.LARGEST_HEADERS // 2**10} KiB, {connections.MOST_HEADERS} headers, "
            f"{connections.SECONDS_FOR_HEADERS} seconds",
            f"| {limits.seconds} seconds from its first byte",
            f"| {limits.requests}, not counting",
            f"| {limits.waiting_bytes // 2**20} MiB together",
            f"twice the number of requests, at least {connections.FEWEST_CONNECTIONS}",
            f"{connections.SECONDS_TO_READ} seconds without progress",
            f"may use {alone.memory // 2**30} GiB of memory and {alone.seconds} seconds",
        ),
        "docs/grading.md": (
            f"`--seconds` ({MOST_SECONDS}) and `--memory` ({MOST_MEBIBYTES:,} MiB)",
            f"at least {round(100 * PASS_MARK)} % of the answers",
        ),
    }.items():
        text = " ".join(PAGES[page].split())
        assert [one for one in said if one not in text] == []
