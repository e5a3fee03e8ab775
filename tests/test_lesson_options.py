"""The common options of lessons, and their errors."""

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from keras_course import _backend
from keras_course._backend import select
from keras_course.errors import CourseError
from keras_course.lesson import Options, parse_options

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def restored_environment(monkeypatch):
    """Restores environment variables and the exception hook after each test."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "JAX_PLATFORMS", "KERAS_BACKEND"):
        monkeypatch.setenv(name, os.environ.get(name, ""))


def test_options_have_the_defaults_of_the_lesson():
    options = parse_options("A lesson.", [], epochs=9, batch_size=64, data="sample", seed=1)
    assert options == Options(backend=select.choose().backend, epochs=9, batch_size=64, data="sample", seed=1)


def test_a_default_for_an_unknown_option_is_a_type_error():
    with pytest.raises(TypeError, match="epoch_count"):
        parse_options("A lesson.", [], epoch_count=3)


def test_every_option_is_read(tmp_path):
    backend = select.choose().backend
    words = f"--backend {backend} --device cpu --precision tf32 --seed 7 --epochs 2 --batch-size 16 --output {tmp_path}"
    flags = ["--resume", "--data", "full", "--model", "new", "--log-steps", "--quiet"]
    options = parse_options("A lesson.", [*words.split(), *flags], model="auto")
    assert options == Options(
        backend=backend,
        device="cpu",
        precision="tf32",
        seed=7,
        epochs=2,
        batch_size=16,
        output=tmp_path,
        resume=True,
        data="full",
        model="new",
        log_steps=True,
        quiet=True,
    )
    assert all(getattr(options, field.name) != field.default for field in fields(Options))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"


def test_only_a_lesson_with_a_model_has_the_option_model(tmp_path):
    assert parse_options("A lesson.", []).model == ""
    with pytest.raises(CourseError, match="--model"):
        parse_options("A lesson.", ["--model", "new"])
    assert parse_options("A lesson.", [], model="auto").model == "auto"
    assert parse_options("A lesson.", ["--model", str(tmp_path)], model="auto").model == str(tmp_path)
    with pytest.raises(CourseError, match=r"--model is 'no_such_run'.*auto or new, the folder of a run, or the name"):
        parse_options("A lesson.", ["--model", "no_such_run"], model="auto")
    assert parse_options("A lesson.", ["--model", "vgg16"], model="auto").model == "vgg16"


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("--epochs", "0"),
        ("--epochs", "-3"),
        ("--epochs", "2.5"),
        ("--batch-size", "0"),
        ("--batch-size", "many"),
        ("--seed", "-1"),
        ("--seed", str(2**63)),
        ("--precision", "float64"),
        ("--data", "no_such_file.npz"),
        ("--device", "tpu"),
        ("--backend", "theano"),
        ("--output", __file__),
        ("--output", f"{__file__}/run"),
    ],
)
def test_an_invalid_value_is_explained_with_argument_and_value(argument, value):
    with pytest.raises(CourseError) as error:
        parse_options("A lesson.", [argument, value])
    assert argument in str(error.value)
    assert value in str(error.value)
    assert "give" in str(error.value) or "--help" in str(error.value)


@pytest.mark.parametrize("argv", [["--epoch", "3"], ["--wrong"], ["word"], ["--epochs"]])
def test_an_unknown_option_is_an_error(argv):
    with pytest.raises(CourseError, match=argv[0]):
        parse_options("A lesson.", argv)


def test_the_largest_seed_is_accepted():
    assert parse_options("A lesson.", ["--seed", str(2**63 - 1)]).seed == 2**63 - 1


def test_data_and_output_can_be_paths(tmp_path):
    options = parse_options("A lesson.", ["--data", str(tmp_path), "--output", str(tmp_path / "new" / "run")])
    assert options.data == str(tmp_path)
    assert not (tmp_path / "new").exists()


def test_resuming_needs_an_existing_folder(tmp_path):
    assert parse_options("A lesson.", ["--resume", "--output", str(tmp_path)]).resume
    assert parse_options("A lesson.", ["--resume"]).output is None
    with pytest.raises(CourseError, match=r"--resume needs .* --output is .*no_run, which is not a folder; give"):
        parse_options("A lesson.", ["--resume", "--output", str(tmp_path / "no_run")])


def test_an_unwritable_folder_is_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(CourseError, match=f"{tmp_path} cannot be written to; give another"):
        parse_options("A lesson.", ["--output", str(tmp_path / "run")])


@pytest.mark.parametrize("device", ["gpu", "gpu:1"])
def test_a_requested_gpu_is_checked(monkeypatch, device):
    asked = []
    monkeypatch.setattr(_backend, "check_device", asked.append, raising=False)
    parse_options("A lesson.", ["--device", device])
    parse_options("A lesson.", ["--device", "auto"])
    assert asked == [device]


def in_a_notebook(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))


def at_the_prompt(monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))


@pytest.mark.parametrize("place", [in_a_notebook, at_the_prompt])
def test_defaults_are_used_in_a_notebook_and_at_the_prompt(monkeypatch, place):
    place(monkeypatch)
    monkeypatch.setattr(sys, "argv", ["launcher.py", "-f", "kernel.json"])
    hook = sys.excepthook
    assert parse_options("A lesson.", epochs=9).epochs == 9
    assert sys.excepthook is hook


PARSE_OPTIONS = """
options = parse_options("A lesson of this course.", epochs=3)
assert sys.modules["keras"].backend.backend() == options.backend
print("ready", options.epochs)
"""
EXPLAIN_ERRORS = """
explain_errors()  # as parse_options does, but without Keras, for which these tests have no use
print("ready 3")
"""


def run_script(folder, start, ending, *arguments, **environment):
    """Runs a script with this beginning and this ending."""
    script = folder / "04_a_lesson.py"
    script.write_text(
        "import errno, sys\n"
        "from keras_course.errors import CourseError\n"
        "from keras_course.lesson import explain_errors, parse_options\n"
        "assert 'keras' not in sys.modules and 'numpy' not in sys.modules\n"
        f"{start}{ending}\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, str(script), *arguments], env=environment, capture_output=True, text=True)


@pytest.mark.one_backend
def test_a_script_reads_its_command_line(tmp_path):
    done = run_script(tmp_path, PARSE_OPTIONS, "", "--epochs", "2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ready 2\n", "")


def test_help_describes_the_lesson_and_every_option(tmp_path):
    done = run_script(tmp_path, PARSE_OPTIONS, "", "--help", COLUMNS="80")
    assert (done.returncode, done.stderr) == (0, "")
    assert "A lesson of this course." in done.stdout
    for field in fields(Options):
        is_shown = f"--{field.name.replace('_', '-')} " in done.stdout
        assert is_shown == (field.name != "model"), "the lesson has no model option"
    assert "training epochs (3)" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        ("raise CourseError('the picture is\\nempty')", "error: the picture is empty"),
        (
            "raise OSError(errno.ENOSPC, 'No space left on device', 'm.keras')",
            "error: No space left on device: m.keras",
        ),
        (
            "from keras_course import errors; raise errors.DiskError('m.keras', OSError(errno.ENOSPC, 'x'))",
            "error: cannot write m.keras (No space left on device); free some space, then start again",
        ),
        ("raise PermissionError(errno.EACCES, 'Permission denied')", "error: Permission denied"),
        ("open('no_such_file')", "error: No such file or directory: no_such_file"),
        ("raise ConnectionError('the server hangs up')", "error: the server hangs up"),
    ],
)
def test_a_user_error_is_one_line_and_exit_code_2(tmp_path, ending, message):
    done = run_script(tmp_path, EXPLAIN_ERRORS, ending)
    assert (done.returncode, done.stdout, done.stderr) == (2, "ready 3\n", message + "\n")


def test_a_wrong_option_is_one_line_and_exit_code_2(tmp_path):
    done = run_script(tmp_path, PARSE_OPTIONS, "", "--epochs", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --epochs is 0; give a whole number from 1 up\n"


def test_ctrl_c_is_one_line_and_exit_code_130(tmp_path):
    done = run_script(tmp_path, EXPLAIN_ERRORS, "raise KeyboardInterrupt")
    assert (done.returncode, done.stderr) == (130, "error: stopped by Ctrl-C\n")


def test_a_programming_error_shows_its_traceback(tmp_path):
    done = run_script(tmp_path, EXPLAIN_ERRORS, "1 / 0")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(("arguments", "variable"), [(["--debug"], "0"), ([], "1")])
def test_debug_shows_the_traceback_of_an_error(tmp_path, arguments, variable):
    done = run_script(tmp_path, EXPLAIN_ERRORS, "raise CourseError('wrong')", *arguments, KERAS_COURSE_DEBUG=variable)
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "CourseError: wrong" in done.stderr
