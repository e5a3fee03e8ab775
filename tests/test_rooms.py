"""The plan of the house: who may import whom, and who may name a framework."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "keras_course"
FRAMEWORKS = re.compile(r"\b(torch|tensorflow|jax)\b")
ADDRESS = re.compile(r"https?://\S+")

# From the ground up; a room imports only from rooms above it in this list. `files` and `_backend` serve all the rest.
ROOMS = (
    "errors",
    "foreign_text",
    "limits",
    "arguments",
    "files",
    "weight_files",
    "progress",
    "_backend",
    "randomness",
    "update_rules",
    "surfaces",
    "preprocessing",
    "cards",
    "datasets",
    "augmentation",
    "models",
    "pretrained",
    "allow_list",
    "evaluation",
    "training",
    "generation",
    "explain",
    "plots",
    "documents",
    "report",
    "lesson",
    "pages",
    "play",
    "deployment",
    "assessment",
    "doctor",
    "cli",
    "__main__",
)
SOURCES = sorted(PACKAGE.rglob("*.py"))
LESSONS = sorted((ROOT / "examples").glob("*.py"))


def room_of(path):
    """The room of a file; that of the package's own ``__init__`` is the empty name."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported(path):
    """Yields the line and the full name of everything that a file imports, wherever in the file it does so."""
    package = ["keras_course", *path.relative_to(PACKAGE).parent.parts] if path.is_relative_to(PACKAGE) else []
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def imported_rooms(path):
    for line, name in imported(path):
        first, *rest = name.split(".")
        if first == "keras_course" and rest and rest[0] in ROOMS:
            yield line, rest[0]


def identifiers(path):
    """Yields the line and the text of every name and text in the code; docstrings and addresses are not code."""
    tree = parse(path)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        texts = [getattr(node, field, None) for field in ("id", "attr", "arg", "name", "module", "asname")]
        if isinstance(node, ast.Constant) and id(node) not in prose:
            texts.append(node.value)
        yield from ((node.lineno, ADDRESS.sub("", text)) for text in texts if isinstance(text, str))


def ids(paths):
    return [str(path.relative_to(ROOT)) for path in paths]


def test_every_room_is_in_the_plan():
    assert {room_of(path) for path in SOURCES} - {""} <= set(ROOMS)
    assert len(SOURCES) > 10


def named_in_table(text):
    """The rooms in the first column of the table in a text, a slash after each that is a folder."""
    first = re.findall(r"^\| (`+\w.*?) \|", text.partition("|---|---|")[2].partition("\n\n")[0], re.MULTILINE)
    return [name for cell in first for name in re.findall(r"`+(\w+/?)`+", cell)]


def test_the_description_of_the_package_names_the_rooms_in_their_order():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    expected = [f"{room}/" if room in folders else room for room in ROOMS if room != "__main__"]
    assert named_in_table(ast.get_docstring(parse(PACKAGE / "__init__.py"))) == expected


def test_the_design_names_rooms_in_their_order():
    named = named_in_table((ROOT / "docs" / "design.md").read_text("utf-8").partition("## Modules")[2])
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    order = [f"{room}/" if room in folders else room for room in ROOMS]
    assert len(named) > 10
    assert named == [room for room in order if room in named]


@pytest.mark.parametrize("path", SOURCES, ids=ids(SOURCES))
def test_a_room_imports_only_from_rooms_above_it(path):
    room = room_of(path)
    allowed = ROOMS[: ROOMS.index(room) + 1] if room else ("_backend", "errors")
    wrong = [f"line {line} imports {other}" for line, other in imported_rooms(path) if other not in allowed]
    assert not wrong


OUTSIDE = [path for path in SOURCES if room_of(path) != "_backend"]


@pytest.mark.parametrize("path", OUTSIDE, ids=ids(OUTSIDE))
def test_no_other_room_names_a_framework(path):
    assert not [f"line {line}: {text!r}" for line, text in identifiers(path) if FRAMEWORKS.search(text)]


@pytest.mark.parametrize("path", LESSONS, ids=ids(LESSONS))
def test_a_lesson_names_a_framework_only_in_prose(path):
    assert not [f"line {line}: {text!r}" for line, text in identifiers(path) if FRAMEWORKS.search(text)]


def test_nothing_imports_a_lesson():
    lessons = {path.stem for path in LESSONS} | {"examples", "_lessons"}
    everything = [
        path
        for folder in ("keras_course", "examples", "tests", "data_scripts")
        for path in (ROOT / folder).rglob("*.py")
    ]
    wrong = [
        f"{path}:{line} imports {name}"
        for path in everything
        for line, name in imported(path)
        if lessons & set(name.split("."))
    ]
    assert LESSONS
    assert not wrong


def test_a_private_part_of_a_room_stays_in_it():
    """``from keras_course.training.fit import _Batches`` would tie two rooms together behind the door."""
    wrong = []
    for path in SOURCES + LESSONS:
        for line, name in imported(path):
            room, *inside = name.split(".")[1:] or [""]
            mine = path in SOURCES and room == room_of(path)
            if name.startswith("keras_course.") and not mine and any(part.startswith("_") for part in inside):
                wrong.append(f"{path}:{line} imports {name}")
    assert not wrong


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import torch", True),
        ("import jax.numpy as jnp", True),
        ("from tensorflow import nn", True),
        ("x = 'jax'", True),
        ("keras.backend.torch.is_on()", True),
        ("f(torch=1)", True),
        ('"""Runs on torch, too."""', False),
        ("x = 'https://example.org/tensorflow/mnist.npz'", False),
        ("# as on jax", False),
        ("ajax = 'torches'", False),
    ],
)
def test_the_search_for_frameworks_finds_what_it_should(tmp_path, code, found):
    (tmp_path / "code.py").write_text(code)
    assert any(FRAMEWORKS.search(text) for _, text in identifiers(tmp_path / "code.py")) == found


def test_what_needs_all_backends_at_once_is_run_where_all_are():
    skipped = "is not installed; tox -e export has all"
    files = {str(path.relative_to(ROOT)) for path in ROOT.glob("tests/*/*.py") if skipped in path.read_text()}
    command = re.search(r"^\[testenv:export\].*?^commands =\s+(.*?)$", (ROOT / "tox.ini").read_text(), re.M | re.S)[1]
    assert files == {word for word in command.split() if word.endswith(".py")}
