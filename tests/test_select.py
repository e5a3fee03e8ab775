"""The choice of the backend and of the device, made before Keras is imported."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import psutil
import pytest

import keras_course
from keras_course._backend import select
from keras_course.errors import CourseError, MissingPackageError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def keras_home(tmp_path, monkeypatch):
    """The Keras home of a machine with JAX and torch, without any choice, and Keras not imported."""
    monkeypatch.setattr(select, "_in_use", None)
    monkeypatch.setattr(select, "is_installed", lambda name: name in ("jax", "torch"))
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "")
    return tmp_path


@pytest.fixture
def device_environment(monkeypatch):
    """Unsets the variables that hide devices, and restores them after the test; returns a function that reads them."""
    names = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "JAX_PLATFORMS")
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return lambda: {name: os.environ[name] for name in names if name in os.environ}


def write_keras_json(folder, backend):
    (folder / "keras.json").write_text(json.dumps({"floatx": "float32", "backend": backend}))


class FakeKeras:
    class backend:
        @staticmethod
        def backend():
            return "torch"


def test_priority_is_argument_environment_file_order(keras_home, monkeypatch):
    assert select.choose() == ("jax", "the first that is installed of jax, torch, tensorflow")
    write_keras_json(keras_home, "torch")
    assert select.choose() == ("torch", f"{keras_home / 'keras.json'} names torch")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert select.choose() == ("jax", "KERAS_BACKEND")
    assert select.choose("torch") == ("torch", "--backend")


def test_the_order_is_jax_torch_tensorflow(keras_home, monkeypatch):
    for installed, expected in (
        (("tensorflow", "torch", "jax"), "jax"),
        (("tensorflow", "torch"), "torch"),
        (("tensorflow",), "tensorflow"),
    ):
        monkeypatch.setattr(select, "is_installed", installed.__contains__)
        assert select.choose().backend == expected


@pytest.mark.parametrize("backend", ["tensorflow", "theano"])
def test_a_keras_json_with_a_missing_backend_is_ignored(keras_home, backend):
    write_keras_json(keras_home, backend)
    choice = select.choose()
    assert choice.backend == "jax"
    assert choice.reason.endswith(f"; {keras_home / 'keras.json'} names {backend}, which is not installed here")


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe", b""])
def test_a_malformed_keras_json_is_ignored_with_a_note(keras_home, content):
    (keras_home / "keras.json").write_bytes(content)
    choice = select.choose()
    assert choice.backend == "jax"
    assert f"{keras_home / 'keras.json'} is ignored, it cannot be read" in choice.reason


@pytest.mark.parametrize("settings", [{}, {"backend": None}, {"backend": ["jax"]}])
def test_a_keras_json_without_a_valid_backend_is_ignored(keras_home, settings):
    (keras_home / "keras.json").write_text(json.dumps(settings))
    assert select.choose().backend == "jax"


def test_an_unreadable_keras_json_is_ignored_with_a_note(keras_home):
    (keras_home / "keras.json").mkdir()
    assert "is ignored" in select.choose().reason


@pytest.mark.parametrize("source", ["--backend", "KERAS_BACKEND"])
def test_an_explicit_backend_must_be_known_and_installed(keras_home, monkeypatch, source):
    def ask(name):
        monkeypatch.setenv("KERAS_BACKEND", name if source == "KERAS_BACKEND" else "jax")
        select.choose(name if source == "--backend" else None)

    with pytest.raises(CourseError, match=f"^{source} is 'pytorch'; give one of jax, torch, tensorflow$"):
        ask("pytorch")
    with pytest.raises(CourseError) as error:
        ask("tensorflow")
    expected = f"{source} is 'tensorflow', which is not installed; run: pip install \"keras-course[tensorflow]\""
    assert str(error.value) == expected


def test_without_any_backend_the_error_says_what_to_install(keras_home, monkeypatch):
    monkeypatch.setattr(select, "is_installed", lambda name: False)
    with pytest.raises(CourseError) as error:
        select.choose()
    for name in ("jax", "torch", "tensorflow"):
        assert f'pip install "keras-course[{name}]"' in str(error.value)


def test_the_backend_of_an_imported_keras_is_used(keras_home, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", FakeKeras)
    assert select.choose() == ("torch", "Keras was imported on it")
    assert select.use("torch").backend == "torch"
    assert os.environ["KERAS_BACKEND"] == ""
    with pytest.raises(CourseError, match="--backend is 'jax', but Keras already runs on torch"):
        select.choose("jax")


def test_the_variable_set_by_use_is_not_a_choice_of_the_user(keras_home, monkeypatch):
    first = select.use()
    assert os.environ["KERAS_BACKEND"] == first.backend
    assert select.choose() == first
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert select.choose() == ("torch", "KERAS_BACKEND")


def test_the_reason_is_kept_after_the_import_of_keras(keras_home, monkeypatch):
    choice = select.use("torch")
    monkeypatch.setitem(sys.modules, "keras", FakeKeras)
    assert select.choose() == choice == ("torch", "--backend")


def test_a_folder_with_the_name_of_a_package_is_not_a_package(tmp_path, monkeypatch):
    (tmp_path / "merely_a_folder").mkdir()
    (tmp_path / "a_package").mkdir()
    (tmp_path / "a_package" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert not select.is_installed("merely_a_folder")
    assert select.is_installed("a_package")


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("auto", {}),
        ("gpu", {}),
        ("cpu", {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}),
        ("gpu:0", {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
        ("gpu:12", {"CUDA_VISIBLE_DEVICES": "12", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
    ],
)
def test_apply_device_hides_other_devices(device_environment, device, expected):
    select.apply_device(device)
    assert device_environment() == expected


@pytest.mark.parametrize("device", ["", "tpu", "CPU", "gpu:", "gpu:-1", "gpu:0,1", "cuda:0", "gpu:0 ", "gpu:٣"])
def test_an_invalid_device_is_an_error_and_changes_nothing(device_environment, device):
    with pytest.raises(CourseError, match="--device is"):
        select.apply_device(device)
    assert device_environment() == {}


def test_second_process_uses_the_given_backend_and_the_same_path(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "only_here.py").write_text("name = 'found'")
    (tmp_path / "json.py").write_text("raise RuntimeError('a stray file')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "elsewhere")])
    code = "import json, os, sys, only_here; print(only_here.name, os.environ['KERAS_BACKEND'], *sys.argv[1:])"
    process = select.second_process("theano", "-c", code, "an argument")
    done = subprocess.run(**process, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("found theano an argument\n", "")
    assert os.environ.get("KERAS_BACKEND") != "theano"


def import_package(folder, *, code="", **environment):
    """Imports the package in a separate process, and returns variables that it sets and modules that it imports."""
    code += (
        "\nimport sys, os, json, keras_course\n"
        "print(json.dumps([os.environ.get('KERAS_BACKEND'), os.environ['TF_CPP_MIN_LOG_LEVEL'], list(sys.modules)]))"
    )
    environment = {"PATH": os.environ["PATH"], "KERAS_HOME": str(folder), **environment}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(ROOT)])
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.needs_backend
def test_importing_the_package_chooses_a_backend_without_heavy_imports(tmp_path):
    backend, log_level, modules = import_package(tmp_path)
    assert backend in select.INSTALL
    assert log_level == "3"
    heavy = {"keras", "numpy", "matplotlib", "typer", "rich", "jax", "torch", "tensorflow", "requests", "pooch"}
    assert heavy.isdisjoint(modules)


def test_importing_the_package_keeps_settings_of_the_user(tmp_path):
    backend, log_level, _ = import_package(tmp_path, KERAS_BACKEND="theano", TF_CPP_MIN_LOG_LEVEL="0")
    assert (backend, log_level) == ("theano", "0")


def test_importing_the_package_without_a_backend_raises_nothing(tmp_path):
    hide = "import importlib.util; importlib.util.find_spec = lambda name: None"
    assert import_package(tmp_path, code=hide)[0] is None


def test_importing_the_package_after_keras_sets_nothing(tmp_path):
    (tmp_path / "keras.py").write_text("class backend:\n    backend = staticmethod(lambda: 'torch')")
    assert import_package(tmp_path, code="import keras")[0] is None


def test_the_version_is_that_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert keras_course.__version__ == project["version"]
    assert set(select.INSTALL) <= set(project["optional-dependencies"])


def test_a_missing_package_has_no_version_and_is_an_error():
    versions = [select.version_of(name) for name in ("keras_course", "no_such_module")]
    assert versions == [keras_course.__version__, "unknown"]
    with pytest.raises(MissingPackageError, match="this needs no_such_module, which is not installed; run: pip"):
        select.require("numpy", "no_such_module", what="this", install="pip")


def test_no_more_processors_are_used_than_there_are():
    assert 1 <= select.processors() <= os.cpu_count()


def test_a_system_that_does_not_tell_its_memory_has_none(monkeypatch):
    assert select.memory_bytes() == psutil.virtual_memory().total

    def unknown(name):
        raise ValueError(f"unrecognized configuration name: {name}")

    monkeypatch.setattr(os, "sysconf", unknown)
    assert select.memory_bytes() is None


def test_a_backend_that_does_not_start_is_explained(tmp_path):
    (tmp_path / "keras.py").write_text("raise ImportError('libcudart.so is missing')")
    code = """
from keras_course._backend import select
from keras_course.errors import CourseError
try:
    select.import_keras()
except CourseError as error:
    print(error)
"""
    environment = {**os.environ, "KERAS_BACKEND": "torch", "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == "Keras does not start on torch: libcudart.so is missing\n"
