"""The order of modules: which module imports which, and which ones name a framework."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "keras_course"
FRAMEWORKS = re.compile(r"\b(torch|tensorflow|jax)\b")
ADDRESS = re.compile(r"https?://\S+")

# A room, that is a top-level module or package, imports only from rooms above it in this list.
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
    "explain_text",
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
    """Returns the top-level module of a file; it is empty for the ``__init__`` of the package."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports_of(path):
    """Yields line and full name of each import anywhere in a file."""
    package = ["keras_course", *path.relative_to(PACKAGE).parent.parts] if path.is_relative_to(PACKAGE) else []
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def imported_rooms(path):
    for line, name in imports_of(path):
        first, *rest = name.split(".")
        if first == "keras_course" and rest and rest[0] in ROOMS:
            yield line, rest[0]


def identifiers(path):
    """Yields line and text of each name and string in the code, without docstrings and URLs."""
    tree = parse(path)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        texts = [getattr(node, field, None) for field in ("id", "attr", "arg", "name", "module", "asname")]
        if isinstance(node, ast.Constant) and id(node) not in prose:
            texts.append(node.value)
        yield from ((node.lineno, ADDRESS.sub("", text)) for text in texts if isinstance(text, str))


def ids(paths):
    return [str(path.relative_to(ROOT)) for path in paths]


def test_every_module_is_in_the_list():
    assert {room_of(path) for path in SOURCES} - {""} <= set(ROOMS)
    assert len(SOURCES) > 10


def modules_in_table(text):
    """Returns the modules in the first column of a table; packages end in a slash."""
    first = re.findall(r"^\| (`+\w.*?) \|", text.partition("|---|---|")[2].partition("\n\n")[0], re.MULTILINE)
    return [name for cell in first for name in re.findall(r"`+(\w+/?)`+", cell)]


def test_the_package_docstring_lists_the_modules_in_order():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    expected = [f"{room}/" if room in folders else room for room in ROOMS if room != "__main__"]
    assert modules_in_table(ast.get_docstring(parse(PACKAGE / "__init__.py"))) == expected


def test_the_design_lists_modules_in_order():
    named = modules_in_table((ROOT / "docs" / "design.md").read_text("utf-8").partition("## Modules")[2])
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    order = [f"{room}/" if room in folders else room for room in ROOMS]
    assert len(named) > 10
    assert named == [room for room in order if room in named]


@pytest.mark.parametrize("path", SOURCES, ids=ids(SOURCES))
def test_a_module_imports_only_from_modules_above_it(path):
    room = room_of(path)
    allowed = ROOMS[: ROOMS.index(room) + 1] if room else ("_backend", "errors")
    wrong = [f"line {line} imports {other}" for line, other in imported_rooms(path) if other not in allowed]
    assert not wrong


OTHER_SOURCES = [path for path in SOURCES if room_of(path) != "_backend"]


@pytest.mark.parametrize("path", OTHER_SOURCES, ids=ids(OTHER_SOURCES))
def test_only_the_backend_names_a_framework(path):
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
        for line, name in imports_of(path)
        if lessons & set(name.split("."))
    ]
    assert LESSONS
    assert not wrong


def test_private_names_are_not_imported_by_other_modules():
    """For example, ``from keras_course.training.fit import _Batches`` is not allowed elsewhere."""
    wrong = []
    for path in SOURCES + LESSONS:
        for line, name in imports_of(path):
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
def test_the_pattern_for_frameworks(tmp_path, code, found):
    (tmp_path / "code.py").write_text(code)
    assert any(FRAMEWORKS.search(text) for _, text in identifiers(tmp_path / "code.py")) == found


def test_tests_of_all_backends_run_in_the_export_environment():
    skipped = "is not installed; tox -e export has all"
    files = {str(path.relative_to(ROOT)) for path in ROOT.glob("tests/*/*.py") if skipped in path.read_text()}
    command = re.search(r"^\[testenv:export\].*?^commands =\s+(.*?)$", (ROOT / "tox.ini").read_text(), re.M | re.S)[1]
    assert files == {word for word in command.split() if word.endswith(".py")}
