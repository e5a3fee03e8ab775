"""The command keras-course, mostly in separate processes."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from keras_course import __version__, cli, doctor
from keras_course._backend.select import INSTALL
from keras_course.datasets import asl
from keras_course.errors import CourseError

ROOT = Path(__file__).parents[1]

LESSON = """# ---
# jupyter:
# ---

# %% [markdown]
# # 04 · MNIST with a dense network
# Two hidden layers learn to read
# [handwritten] digits.
#
# - needs: one backend
# - data: MNIST, 60,000 + 10,000 digits (a sample of 12,000
#   ships with the package)
# - time: 1 minute

# %%
import sys
from keras_course.lesson import parse_options

options = parse_options("Digits.", epochs=3)
print(options.epochs, options.seed, __name__, sys.argv[1:])
"""

# Hides the packages in HIDE as if they were not installed.
SITECUSTOMIZE = """
import importlib.machinery, os

original = importlib.machinery.PathFinder.find_spec

def find_spec(cls, name, path=None, target=None):
    return None if name in os.environ.get("HIDE", "").split(",") else original(name, path, target)

importlib.machinery.PathFinder.find_spec = classmethod(find_spec)
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with five small lessons; only 04_mnist_dense has a header."""
    lessons = tmp_path / "lessons"
    lessons.mkdir()
    (lessons / "04_mnist_dense.py").write_text(LESSON, encoding="utf-8")
    for name in ("01_gradient_descent", "05_asl_dense", "06_asl_cnn", "07_asl_cnn_deep"):
        (lessons / f"{name}.py").write_text("print('nothing')\n")
    (lessons / "helpers.py").write_text("")
    return lessons


def keras_course(*arguments, search=(), **environment):
    """Runs the command line and returns what it prints and its exit code."""
    search_path = os.pathsep.join(map(str, (*search, ROOT)))
    environment = {**os.environ, "COLUMNS": "80", "PYTHONPATH": search_path, **environment}
    command = [sys.executable, "-m", "keras_course", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)


def assert_one_line_error(done, *parts):
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    for part in parts:
        assert part in done.stderr


def test_version():
    done = keras_course("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"keras-course {__version__}\n", "")


def test_help_is_shown_without_arguments():
    done = keras_course()
    assert done.returncode == 0
    assert done.stderr == ""
    for command in ("lessons", "run", "play", "doctor"):
        assert command in done.stdout


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["dcotor"], ["'dcotor'", "--help"]),
        (["lessons", "--wrong"], ["--wrong", "--help"]),
        (["run"], ["LESSON", "--help"]),
        (["run", "--folder", "no_such_folder", "4"], ["no_such_folder"]),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(arguments, parts):
    assert_one_line_error(keras_course(*arguments), *parts)


def test_lessons_are_listed_without_heavy_imports(folder):
    code = (
        "import sys\n"
        "from keras_course.cli import main\n"
        f"sys.argv = ['keras-course', 'lessons', '--folder', {str(folder)!r}]\n"
        "try:\n    main()\n"
        "finally:\n    print(*sys.modules, file=sys.stderr)"
    )
    environment = {**os.environ, "COLUMNS": "80", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert [line.split()[0] for line in lines if line[0] != " "] == [
        "01_gradient_descent",
        "04_mnist_dense",
        "05_asl_dense",
        "06_asl_cnn",
        "07_asl_cnn_deep",
    ]
    assert "04_mnist_dense       MNIST with a dense network" in lines
    assert "one backend · MNIST, 60,000 + 10,000 digits (a sample of 12,000" in " ".join(done.stdout.split())
    assert max(map(len, lines)) <= 80
    assert {"keras", "numpy", "matplotlib", "jax", "torch", "tensorflow"}.isdisjoint(done.stderr.split())


def test_the_header_of_a_lesson_is_read(folder):
    assert cli.find_lesson("4", folder) == cli.Lesson(
        path=folder / "04_mnist_dense.py",
        title="MNIST with a dense network",
        needs="one backend",
        data="MNIST, 60,000 + 10,000 digits (a sample of 12,000 ships with the package)",
        time="1 minute",
    )


@pytest.mark.parametrize("text", ["", "print('nothing')\n", "# %% [markdown]\n", "# %% [markdown]\n# %%\n# # Code\n"])
def test_a_lesson_without_a_header_has_its_name_as_title(tmp_path, text):
    (tmp_path / "03_neurons.py").write_text(text)
    assert cli.find_lessons(tmp_path) == [cli.Lesson(tmp_path / "03_neurons.py", "03_neurons", "", "", "")]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("04_mnist_dense", "04_mnist_dense"),
        ("04_mnist_dense.py", "04_mnist_dense"),
        ("examples/04_mnist_dense.py", "04_mnist_dense"),
        ("4", "04_mnist_dense"),
        ("04", "04_mnist_dense"),
        ("mnist_dense", "04_mnist_dense"),
        ("mnist", "04_mnist_dense"),
        ("04_mn", "04_mnist_dense"),
        ("asl_cnn", "06_asl_cnn"),
        ("asl_cnn_d", "07_asl_cnn_deep"),
    ],
)
def test_a_lesson_is_found_by_any_unambiguous_name(folder, name, expected):
    assert cli.find_lesson(name, folder).name == expected


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("asl", "may be 05_asl_dense, 06_asl_cnn, 07_asl_cnn_deep"),
        ("mnist_dnse", "did you mean 04_mnist_dense?"),
        ("9", "lists them"),
        ("40", "lists them"),
        ("doctor", "lists them"),
    ],
)
def test_an_unknown_lesson_is_explained(folder, name, hint):
    with pytest.raises(CourseError) as error:
        cli.find_lesson(name, folder)
    assert repr(name) in str(error.value)
    assert hint in str(error.value)


def test_a_folder_without_lessons_is_explained(tmp_path):
    with pytest.raises(CourseError, match=r"^there are no lessons in .*; give --folder with numbered scripts$"):
        cli.find_lessons(tmp_path)


def test_lessons_of_an_installed_package_have_priority(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "keras_course"
    (tmp_path / "site-packages" / "examples").mkdir(parents=True)
    monkeypatch.setattr(cli, "__file__", str(package / "cli.py"))
    assert cli.lessons_folder() == tmp_path / "site-packages" / "examples"
    (package / "_lessons").mkdir(parents=True)
    assert cli.lessons_folder() == package / "_lessons"


@pytest.mark.one_backend
@pytest.mark.needs_backend
def test_run_is_the_same_as_running_the_script(folder):
    arguments = ["--epochs", "2", "--seed", "5"]
    through_cli = keras_course("run", "--folder", folder, "4", *arguments)
    command = [sys.executable, str(folder / "04_mnist_dense.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    direct = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (through_cli.returncode, through_cli.stdout, through_cli.stderr) == (0, direct.stdout, direct.stderr)
    assert direct.stdout == "2 5 __main__ ['--epochs', '2', '--seed', '5']\n"


def test_run_shows_the_help_of_the_lesson(folder):
    done = keras_course("run", "--folder", folder, "4", "--help")
    assert done.returncode == 0
    assert "training epochs (3)" in done.stdout


def test_run_explains_a_wrong_option_of_the_lesson(folder):
    assert_one_line_error(keras_course("run", "--folder", folder, "4", "--epochs", "0"), "--epochs is 0")


def test_run_explains_an_unknown_lesson(folder):
    assert_one_line_error(keras_course("run", "--folder", folder, "mnist_dnse"), "04_mnist_dense")


@pytest.mark.parametrize(
    ("ending", "exit_code", "stderr"),
    [
        ("raise SystemExit(7)", 7, ""),
        ("raise KeyboardInterrupt", 130, "error: stopped by Ctrl-C\n"),
        ("raise OSError(28, 'No space left on device')", 2, "error: No space left on device\n"),
    ],
)
def test_run_has_the_exit_code_of_the_lesson(folder, ending, exit_code, stderr):
    (folder / "08_ends.py").write_text(ending)
    done = keras_course("run", "--folder", folder, "8")
    assert (done.returncode, done.stdout, done.stderr) == (exit_code, "", stderr)


@pytest.mark.needs_backend
def test_doctor_reports_frameworks_and_data(tmp_path):
    signs = tmp_path / asl.FILE_NAME
    signs.touch()
    done = keras_course("doctor", "--json", KERAS_BACKEND="", KERAS_COURSE_DATA=str(tmp_path))
    report = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    assert list(report["frameworks"]) == list(INSTALL)
    for name, framework in report["frameworks"].items():
        assert framework["works"] == (find_spec(name) is not None)
        assert framework["works"] == bool(framework["version"])
        assert framework["works"] == bool(framework.get("devices"))
    assert report["backend"]["name"] in INSTALL
    assert report["backend"]["works"]
    assert {"float32", "bfloat16"} <= set(report["precisions"])
    assert report["versions"]["keras_course"] == __version__
    assert report["machine"]["cpus"] >= 1
    assert report["data"]["mnist_sample"] in (True, False)
    assert report["data"]["hand_signs"] == str(signs)


@pytest.fixture
def browser(tmp_path):
    """A command in place of a browser that writes the given address to a file."""
    script = tmp_path / "browser.sh"
    script.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path / "opened"}\n')
    script.chmod(0o755)
    return f"{script} %s"


def play(folder, *arguments, **environment):
    """Runs `keras-course play` and returns its output, the page, and the address that it opened."""
    environment = {"DISPLAY": "", "WAYLAND_DISPLAY": "", "BROWSER": "", **environment}
    page = folder / "keras_course_play.html"
    if "--output" not in arguments:
        arguments = (*arguments, "--output", page)
    done = keras_course("play", *arguments, **environment)
    opened = folder / "opened"
    return done, page, opened.read_text().strip() if opened.exists() else None


def test_play_opens_the_page_that_it_writes(tmp_path, browser):
    done, page, opened = play(tmp_path, BROWSER=browser)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{page} is open in your browser\n"
    assert opened == page.as_uri()
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="there is always a display")
@pytest.mark.parametrize("arguments", [["--no-browser"], []])
def test_play_without_a_browser_prints_the_path_of_the_page(tmp_path, browser, arguments):
    done, page, opened = play(tmp_path, *arguments, BROWSER=browser if arguments else "")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{page} is written; open it in a browser\n"
    assert opened is None
    assert page.exists()


def test_play_writes_into_the_current_folder(tmp_path):
    command = [sys.executable, "-m", "keras_course", "play", "--no-browser"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True, timeout=100)
    assert [path.name for path in tmp_path.iterdir()] == ["keras_course_play.html"]


@pytest.mark.parametrize("name", ["page.txt", "."])
def test_play_refuses_a_name_that_is_no_html_file(tmp_path, name):
    done, *_ = play(tmp_path, "--output", tmp_path / name)
    assert_one_line_error(done, "give the name of a file that ends in .html")


@pytest.fixture
def no_backend(tmp_path):
    """Settings for an environment without backends, in which Keras has never run."""
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    return {"search": [tmp_path], "HIDE": ",".join(INSTALL), "KERAS_BACKEND": "", "KERAS_HOME": str(tmp_path)}


def test_doctor_without_a_backend_says_what_to_install(no_backend):
    done = keras_course("doctor", **no_backend)
    assert (done.returncode, done.stderr) == (2, "")
    for install in INSTALL.values():
        assert install in done.stdout
    assert "no backend is installed" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_doctor_shows_the_error_of_a_broken_framework(no_backend, tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libcudart.so is missing\\nsecond line')")
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("import os; os._exit(77)")
    done = keras_course("doctor", "--json", **no_backend | {"HIDE": "jax"})
    report = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (2, "")
    assert report["frameworks"]["torch"]["error"] == "ImportError: libcudart.so is missing"
    assert report["frameworks"]["tensorflow"]["error"] == "its import ends Python with exit code 77"
    assert report["frameworks"]["jax"]["error"] == "not installed"
    assert report["backend"] == {
        "name": "torch",
        "reason": "the first that is installed of jax, torch, tensorflow",
        "works": False,
    }


def test_doctor_names_gpus_with_their_memory():
    devices = [
        {"name": "CPU", "kind": "cpu", "memory_bytes": None},
        {"name": "NVIDIA H200", "kind": "gpu", "memory_bytes": 3 * 2**29},
        {"name": "Apple GPU (mps)", "kind": "gpu", "memory_bytes": None},
    ]
    report = {"frameworks": {"torch": {"version": "2.9", "works": True, "devices": devices}}}
    (row,) = doctor.framework_rows(report)
    assert row == ("torch", "2.9", True, "cpu\ngpu, NVIDIA H200, 1.5 GiB\ngpu, Apple GPU (mps)")


@pytest.mark.parametrize(
    ("protection", "words"),
    [
        ((["cpu"], 0, True), "(cpu); no Landlock on this system to protect other files"),
        ((["cpu", "memory"], 7, True), "(cpu, memory); Landlock 7 protects other files"),
        (([], 7, False), "(none: only the parent process limits it); Landlock can protect other files: pip install"),
    ],
)
def test_doctor_says_what_protects_from_untrusted_models(protection, words):
    names = ("limits", "landlock", "landlock_package")
    assert words in doctor._protection_in_words(dict(zip(names, protection, strict=True)))


def test_doctor_reports_no_limits_if_their_test_hangs(monkeypatch):
    monkeypatch.setattr(doctor, "_PROBE_SECONDS", 0.5)
    monkeypatch.setattr(doctor, "_CONFINE", "import time; time.sleep(60)")
    assert doctor._examine_protection()["limits"] == []


def test_doctor_has_a_time_limit(tmp_path, monkeypatch):
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("import time; time.sleep(60)")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "_PROBE_SECONDS", 0.5)
    assert doctor._answer(doctor._start_probe("jax")) == {"works": False, "error": "no answer in 0.5 seconds"}


def test_a_lesson_without_a_backend_says_what_to_install(folder, no_backend):
    done = keras_course("run", "--folder", folder, "4", **no_backend)
    assert_one_line_error(done, *INSTALL.values())


def test_lessons_are_listed_without_a_backend(folder, no_backend):
    done = keras_course("lessons", "--folder", folder, **no_backend)
    assert (done.returncode, done.stderr) == (0, "")


def test_play_needs_no_backend(no_backend, tmp_path):
    done, page, _ = play(tmp_path, **no_backend)
    assert (done.returncode, done.stderr) == (0, "")
    assert page.exists()
