"""The command ``keras-course``: lists the lessons, runs one, and says what this machine can do."""

import gc
import json
import os
import re
import runpy
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

import keras_course
from keras_course._backend import select
from keras_course.assessment import MOST_MEBIBYTES, MOST_SECONDS, PASS_MARK
from keras_course.deployment.formats import FORMATS, find_model_file
from keras_course.errors import CourseError, check_positive
from keras_course.foreign_text import printable
from keras_course.lesson import PRECISIONS, explain_errors
from keras_course.progress import with_progress_bar

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from rich.console import Console
    from rich.table import Table

    from keras_course.assessment.exam import Exam
    from keras_course.assessment.grades import Grade
    from keras_course.deployment.predict import Prediction
    from keras_course.deployment.runtimes import Runtime

T = TypeVar("T")

app = typer.Typer(add_completion=False, help="Deep learning, one lesson at a time.")

_Folder = Annotated[Path | None, typer.Option("--folder", help="Where the lessons are, in place of our own.")]


def main() -> None:
    """Runs the command line; a mistake ends it with one line on stderr and exit code 2.

    Raises:
        SystemExit: With the exit code of the command.
        CourseError: If the command line makes no sense; ``explain_errors`` prints it.
    """
    explain_errors()
    command = typer.main.get_command(app)
    try:
        exit_code = command.main(sys.argv[1:] or ["--help"], prog_name="keras-course", standalone_mode=False)
    except Exception as error:
        # Typer would draw a box; its errors are known by this method, whichever version of it is installed.
        if not hasattr(error, "format_message"):
            raise
        raise CourseError(f"{error.format_message()} See keras-course --help.") from error
    raise SystemExit(exit_code)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"keras-course {keras_course.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


# --- lessons ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lesson:
    """What the first cell of a lesson says about it."""

    path: Path
    title: str
    summary: str
    needs: str
    data: str
    time: str

    @property
    def name(self) -> str:
        """The file name without its ending, such as ``04_mnist_dense``."""
        return self.path.stem


def lessons_folder() -> Path:
    """Finds the lessons: inside an installed package, or beside the package in a checkout.

    Returns:
        The folder with the numbered scripts.

    Example:
        >>> lessons_folder().name in ("_lessons", "examples")
        True
    """
    # The installed place first: site-packages may hold an "examples" of somebody else, a checkout has no _lessons.
    package = Path(__file__).parent
    installed = package / "_lessons"
    return installed if installed.is_dir() else package.parent / "examples"


def find_lessons(folder: Path) -> list[Lesson]:
    """Reads the heads of all lessons in a folder, as text.

    Args:
        folder: Where the numbered scripts are.

    Returns:
        The lessons in the order of their numbers.

    Raises:
        CourseError: If there are none.

    Example:
        >>> find_lessons(Path("no_such_folder"))
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: there are no lessons in no_such_folder; give --folder with numbered scripts
    """
    lessons = [_read_head(path) for path in sorted(folder.glob("[0-9][0-9]_*.py"))]
    if not lessons:
        raise CourseError(f"there are no lessons in {folder}; give --folder with numbered scripts")
    return lessons


def find_lesson(name: str, folder: Path) -> Lesson:
    """Finds a lesson by its name, its number, or as much of its name as is unambiguous.

    Args:
        name: Such as ``04_mnist_dense``, ``4``, ``mnist_dense`` or ``mnist``.
        folder: Where the numbered scripts are.

    Returns:
        The lesson.

    Raises:
        CourseError: If there is no such lesson, or more than one.

    Example:
        >>> find_lesson("0", Path("no_such_folder"))
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: there are no lessons in no_such_folder; give --folder with numbered scripts
    """
    lessons = find_lessons(folder)
    wanted = Path(name).stem
    # A whole name goes before the beginning of one: 06_asl_cnn is meant by "asl_cnn" beside an asl_cnn_deep, too.
    found = [lesson for lesson in lessons if wanted in _short_forms(lesson)]
    found = found or [lesson for lesson in lessons if any(form.startswith(wanted) for form in _short_forms(lesson)[1:])]
    if len(found) == 1:
        return found[0]
    if found:
        raise CourseError(f"the lesson {name!r} may be {', '.join(lesson.name for lesson in found)}; give one of them")
    names = {form: lesson.name for lesson in lessons for form in _short_forms(lesson)[1:]}
    near = dict.fromkeys(names[form] for form in get_close_matches(wanted, names, cutoff=0.7))
    hint = f"did you mean {' or '.join(near)}?" if near else "`keras-course lessons` lists them"
    raise CourseError(f"there is no lesson {name!r}; {hint}")


def _short_forms(lesson: Lesson) -> tuple[str, ...]:
    number, _, topic = lesson.name.partition("_")
    return str(int(number)), number, lesson.name, topic


def _read_head(path: Path) -> Lesson:
    """Reads the first markdown cell; what it does not say stays empty."""
    with path.open(encoding="utf-8") as file:
        lines = iter(file)
        next((line for line in lines if line.startswith("# %% [markdown]")), None)
        cell = []
        for line in lines:
            if not line.startswith("#") or line.startswith("# %%"):
                break
            cell.append(line.rstrip()[1:].removeprefix(" "))
    title, _, text = "\n".join(cell).partition("\n")
    summary, *_ = text.strip().split("\n\n")
    facts = dict(re.findall(r"^- (\w+): (.+(?:\n +.+)*)", text, flags=re.MULTILINE))
    needs, data, time = (" ".join(facts.get(fact, "").split()) for fact in ("needs", "data", "time"))
    title = title.removeprefix("# ").rpartition(" · ")[2] or path.stem
    return Lesson(path, title, " ".join(summary.split()), needs, data, time)


@app.command("lessons")
def list_lessons(folder: _Folder = None) -> None:
    """List the lessons and what each needs."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid("", "", padding=(0, 2))
    for lesson in find_lessons(folder or lessons_folder()):
        facts = " · ".join(filter(None, (lesson.needs, lesson.data, lesson.time)))
        table.add_row(Text(lesson.name, "bold"), Text.assemble(lesson.title, (facts and f"\n{facts}", "dim")))
    _console().print(table)


@app.command(context_settings={"allow_interspersed_args": False})
def run(
    name: Annotated[str, typer.Argument(metavar="LESSON", help="Its name, or its number.")],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="OPTIONS", help="The lesson's own; LESSON --help lists them.")
    ] = None,
    folder: _Folder = None,
) -> None:
    """Run a lesson, as `python LESSON.py OPTIONS` would."""
    lesson = find_lesson(name, folder or lessons_folder())
    sys.argv = [str(lesson.path), *(options or [])]
    try:
        runpy.run_path(str(lesson.path), run_name="__main__")
    except KeyboardInterrupt as interrupt:
        # Typer would swallow it; the script itself ends with the words of the hook.
        sys.excepthook(type(interrupt), interrupt, interrupt.__traceback__)


# --- play ------------------------------------------------------------------------------------------------------


@app.command()
def play(
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="Where to write the page.")] = Path(
        "keras_course_play.html"
    ),
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only write the page, do not open it.")] = False,
) -> None:
    """Write a page on which to play with gradient descent, and open it."""
    import webbrowser

    from keras_course.play import write_page

    page = write_page(output)
    opened = not no_browser and _has_display() and webbrowser.open(page.as_uri())
    print(f"{page} is {'open in your browser' if opened else 'written; open it in a browser'}")


def _has_display() -> bool:
    """Whether a browser could show a window; without one, Python would start a text browser in the terminal."""
    return sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))


_MODEL = "The folder of a run, a .keras file, an export, or the name of a pre-trained model."

_Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Open a model file in a format that can run code or end the process; only for files that you made "
        "yourself.",
    ),
]


# --- predict ---------------------------------------------------------------------------------------------------


@app.command()
def predict(
    model: Annotated[str, typer.Argument(metavar="RUN", help=_MODEL)],
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURE...", help="Pictures, or folders of them.")],
    top: Annotated[int, typer.Option("--top", metavar="N", help="How many answers to show.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    backend: Annotated[str, typer.Option("--backend", metavar="NAME", help="What Keras runs on.")] = "",
    trust: _Trust = False,
) -> int:
    """Say what is in pictures."""
    from keras_course.deployment.predict import find_pictures
    from keras_course.deployment.predict import predict as predict_pictures

    check_positive(top=top)
    found = find_pictures(pictures)
    runtime = _open_model(model, backend, trust=trust)()
    predictions = with_progress_bar(predict_pictures(runtime, found, top=top), len(found), "pictures")
    if as_json:
        facts = {"model": str(runtime.path), "format": runtime.format, "runtime": runtime.name}
        print(json.dumps({**facts, "predictions": [prediction.to_dict() for prediction in predictions]}, indent=2))
    else:
        _show_predictions(predictions, runtime, _console())
    return 2 if all(prediction.error for prediction in predictions) else 0


def _open_model(model: str, backend: str, *, trust: bool) -> "Callable[[], Runtime]":
    """Begins to open a model; Keras, if it is needed, starts on the backend that was asked for.

    Another process opens it unless it is trusted: this one can import meanwhile what it needs itself. The function that
    is returned waits for the model.
    """
    from keras_course.deployment.isolation import start_model
    from keras_course.deployment.locate import is_pretrained

    if is_pretrained(model):
        select.use(backend)
        select.import_keras()
    file = find_model_file(model)
    if backend and not file.is_keras:
        raise CourseError(
            f"--backend is {backend!r}, but {file.path} is an export, which no backend opens; leave it out"
        )
    process = None if trust else start_model(file, backend=backend)

    def wait() -> "Runtime":
        from keras_course.deployment.runtimes import open_here, runtime_of

        if process is not None:
            return runtime_of(process)
        if file.is_keras:
            select.use(backend)
            select.import_keras()
        return open_here(file, trust=True)

    return wait


def _show_predictions(predictions: "list[Prediction]", runtime: "Runtime", console: "Console") -> None:
    from rich.table import Table
    from rich.text import Text

    facts = [
        ("model", printable(f"{runtime.path} ({runtime.card.title})")),
        ("format", runtime.format),
        ("runtime", f"{runtime.name}, opened in {runtime.seconds:.1f} s"),
    ]
    console.print(_fact_table(facts), "")

    table = Table(box=None, pad_edge=False)
    table.add_column("picture", overflow="fold")
    table.add_column("answers", overflow="fold")
    for prediction in predictions:
        answers = "   ".join(f"{answer.class_name} {answer.probability:.1%}" for answer in prediction.answers)
        error = Text(printable(prediction.error), "red")
        table.add_row(printable(prediction.name), error if prediction.error else printable(answers))
    console.print(table)


# --- serve -----------------------------------------------------------------------------------------------------


@app.command()
def serve(
    model: Annotated[str, typer.Argument(metavar="RUN", help=_MODEL)],
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="0.0.0.0 for all who reach this machine.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", metavar="N", help="0 for a free one.")] = 8000,
    requests: Annotated[int, typer.Option("--requests", metavar="N", help="How many at the same time.")] = 256,
    seconds: Annotated[int, typer.Option("--seconds", metavar="N", help="How long one may take.")] = 20,
    allowed_hosts: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-host",
            metavar="NAME",
            help="A name under which the service is called, besides this machine's own; may be given several times.",
        ),
    ] = None,
    backend: Annotated[str, typer.Option("--backend", metavar="NAME", help="What Keras runs on.")] = "",
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    log: Annotated[bool, typer.Option("--log", help="Write a line about each request to the error output.")] = False,
    trust: _Trust = False,
) -> None:
    """Answer pictures on a page, and over HTTP."""
    from keras_course.deployment.serve import address, bind, check_hosts, check_installed
    from keras_course.deployment.serve import serve as serve_model

    check_installed()
    check_hosts(allowed_hosts or [])
    check_positive(requests=requests, seconds=seconds)
    gc.disable()  # imports leave nothing to collect, and to look for it takes a tenth of their time
    with bind(host, port) as listening:  # before the model is opened, which may take its time
        wait_for_model = _open_model(model, backend, trust=trust)
        # imported while the model is opened
        from keras_course.deployment import connections, service  # noqa: F401
        from keras_course.deployment.guard import RequestLimits

        limits = RequestLimits(requests=requests, seconds=seconds)
        runtime = wait_for_model()

        def ready() -> None:
            gc.freeze()  # what is there now stays
            gc.enable()
            print(
                f"{printable(runtime.card.title)}: {runtime.name} on {address(listening)} (Ctrl-C ends it)", flush=True
            )
            if open_page:
                import webbrowser

                webbrowser.open(address(listening))

        serve_model(runtime, listening, limits=limits, allowed_hosts=allowed_hosts or [], log=log, ready=ready)


# --- export ----------------------------------------------------------------------------------------------------


@app.command()
def export(
    model: Annotated[str, typer.Argument(metavar="RUN", help="A run, a .keras file, or a pre-trained model.")],
    kind: Annotated[str, typer.Option("--format", metavar="NAME", help=", ".join(FORMATS))],
    output: Annotated[Path | None, typer.Option("--output", metavar="PATH", help="Where to write it.")] = None,
    backend: Annotated[str, typer.Option("--backend", metavar="NAME", help="What Keras runs on.")] = "",
    trust: _Trust = False,
) -> None:
    """Write a model in another format, and make sure that it gives the same answers there."""
    from keras_course.deployment.export import export_model
    from keras_course.deployment.locate import find_model, is_pretrained

    if not is_pretrained(model):
        find_model(model)  # a wrong name is found before Keras starts
    if trust or is_pretrained(model):
        select.use(backend)
        select.import_keras()
    exported = export_model(model, format=kind, output=output, trust=trust, backend=backend)
    print(f"{exported.path}: {exported.size:,} bytes, written by {exported.written_by}")
    print(f"{exported.runtime} gives the logits of Keras, to {exported.difference:.1g}")


# --- assess ----------------------------------------------------------------------------------------------------

_Data = Annotated[
    Path,
    typer.Option("--data", metavar="FOLDER", help="Photos to examine with: a folder for each class, or such in valid."),
]
_Parts = Annotated[
    list[str] | None, typer.Option("--part", metavar="NAME", help="valid, test, or both, of a folder that has them.")
]
_Classes = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        metavar="FOLDER[=CLASS]",
        help="A folder to take, and the class that it is; again for each. * fits all.",
    ),
]
_PassMark = Annotated[float, typer.Option("--pass-mark", metavar="SHARE", help="How much has to be right.")]
_Key = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="Sign results with this key; new-key makes one.")
]
_Seconds = Annotated[int, typer.Option("--seconds", metavar="N", help="How long a model may take.")]
_Memory = Annotated[int, typer.Option("--memory", metavar="MIB", help="How much memory a model may take.")]


@app.command()
def assess(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="The folder of a run, a .keras file, or an export as ONNX.")
    ],
    data: _Data,
    parts: _Parts = None,
    classes: _Classes = None,
    pass_mark: _PassMark = PASS_MARK,
    key: _Key = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FOLDER", help="Write result.json and pictures there.")
    ] = None,
    learner: Annotated[
        str, typer.Option("--learner", metavar="NAME", help="Whose model it is; the result says so.")
    ] = (""),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    seconds: _Seconds = MOST_SECONDS,
    memory: _Memory = MOST_MEBIBYTES,
    backend: Annotated[str, typer.Option("--backend", metavar="NAME", help="What Keras runs on.")] = "",
) -> int:
    """Grade a model: 0 is passed, 1 is not."""
    from keras_course.assessment.grader import Limits, grade
    from keras_course.assessment.grades import read_key, sign, write_result

    secret = read_key(key) if key else None
    exam = _exam(data, parts, classes, pass_mark)
    limits = Limits(seconds=seconds, memory=memory * 2**20)
    result = grade(model, exam, limits=limits, backend=backend, figures=output, learner=learner)
    signed = sign(result, secret)
    if output is not None:
        write_result(signed, output / "result.json")
    if as_json:
        print(json.dumps(signed, indent=2))
    else:
        _show_grade(result, _console())
    return 0 if result.passed else 1


@app.command()
def classroom(
    submissions: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A model of each learner, or a folder of each with one in it.")
    ],
    data: _Data,
    output: Annotated[Path, typer.Option("--output", metavar="FOLDER", help="Where to write.")],
    parts: _Parts = None,
    classes: _Classes = None,
    pass_mark: _PassMark = PASS_MARK,
    key: _Key = None,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", help="How many models at the same time.")] = 0,
    seconds: _Seconds = MOST_SECONDS,
    memory: _Memory = MOST_MEBIBYTES,
    backend: Annotated[str, typer.Option("--backend", metavar="NAME", help="What Keras runs on.")] = "",
) -> None:
    """Grade the models of a whole class into a table and a page."""
    from keras_course.assessment.classroom import find_other_files, find_submissions, grade_all
    from keras_course.assessment.grader import Limits
    from keras_course.assessment.grades import read_key

    secret = read_key(key) if key else None
    exam = _exam(data, parts, classes, pass_mark)
    found, others = find_submissions(submissions), find_other_files(submissions)
    processors = select.processors()
    # each process has a backend to start, which keeps one processor and some memory busy
    at_once = jobs or max(1, min(len(found), processors, (_memory_bytes() or 0) // (memory * 2**20)))
    limits = Limits(seconds=seconds, memory=memory * 2**20, threads=max(1, processors // at_once))
    grades = grade_all(
        found,
        exam,
        output,
        key=secret,
        limits=limits,
        backend=backend,
        jobs=at_once,
        progress=lambda one, result: print(f"{one.name}: {result.verdict}, {result.reason}", flush=True),
    )
    passed = sum(result.passed for result in grades)
    print(f"{passed} of {len(grades)} passed; {output / 'grades.html'} and {output / 'grades.csv'}")
    for name in others:
        print(f"{name}: passed over, it is no model")


@app.command("new-key")
def make_key(path: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")]) -> None:
    """Make a key to sign results with."""
    from keras_course.assessment.grades import new_key

    new_key(path)
    print(f"{path}: a new key; whoever can read it can sign results")


@app.command()
def verify(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="A result.json.")],
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="The key that it was signed with.")],
    model: Annotated[
        Path | None, typer.Option("--model", metavar="MODEL", help="Make sure that it is the grade of this model.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FOLDER", help="Make sure that it was examined with these photos.")
    ] = None,
    learner: Annotated[
        str | None, typer.Option("--learner", metavar="NAME", help="Make sure that it is the result of this learner.")
    ] = None,
) -> None:
    """Make sure that a result is signed, and unchanged."""
    from keras_course.assessment.grades import read_key, read_result
    from keras_course.assessment.grades import verify as verify_result

    text, secret = read_result(result), read_key(key)
    try:
        content = verify_result(text, secret)
    except CourseError as error:
        raise CourseError(f"{result}: {error}") from None
    if model is not None:
        from keras_course.assessment.grader import check_model

        check_model(content, model)
    if data is not None:
        from keras_course.assessment.exam import check_data

        check_data(content, data)
    if learner is not None and content.get("learner") != printable(learner):
        raise CourseError(f"{result} is not the result of {learner!r}, but of {content.get('learner') or 'nobody'!r}")
    of = f" of {content['learner']}" if content.get("learner") else ""
    facts = (
        f"{content.get('model')}{of}: {content.get('verdict')}, {content.get('reason')} ({content.get('graded_at')})"
    )
    print(f"signed and unchanged: {printable(facts)}")


def _exam(data: Path, parts: list[str] | None, classes: list[str] | None, pass_mark: float) -> "Exam":
    from keras_course.assessment.exam import Exam

    pairs = [name.partition("=") for name in classes or []]
    mapping = {folder: class_name or folder for folder, _, class_name in pairs} or None
    return Exam(folder=data, classes=mapping, parts=parts or ["valid"], pass_mark=pass_mark)


def _show_grade(result: "Grade", console: "Console") -> None:
    from rich.table import Table
    from rich.text import Text

    console.print(Text(f"{result.model}: {result.verdict}", "green" if result.passed else "red"))
    console.print(f"{result.reason}.")
    if result.accuracy is None:
        return
    facts = [
        ("runtime", f"{result.format}, {result.runtime}, {result.seconds:.1f} s"),
        ("classes", result.class_order),
        ("photos", f"{result.photos:,}, {result.skipped:,} could not be read"),
        ("unanswered", f"{result.unanswered:,}"),
    ]
    console.print("", _fact_table(facts), "")

    matrix = Table(box=None, pad_edge=False)
    matrix.add_column("is", overflow="fold")
    for name in (*map(printable, result.class_names), "right"):
        matrix.add_column(name, justify="right", overflow="fold")
    for name, row, recall in zip(result.class_names, result.confusion_matrix, result.recalls, strict=True):
        matrix.add_row(printable(name), *map(str, row), f"{recall:.1%}")
    console.print(matrix, "")

    mistakes = Table(box=None, pad_edge=False)
    for heading in ("worst mistakes", "is", "said"):
        mistakes.add_column(heading, overflow="fold")
    for photo, label, answer, probability in result.mistakes[:8]:
        mistakes.add_row(photo, printable(label), printable(f"{answer} {probability:.1%}"))
    if result.mistakes:
        console.print(mistakes)


# --- doctor ----------------------------------------------------------------------------------------------------

# A cold start from a slow disk takes a minute.
_PROBE_SECONDS = 120

# Runs in a process of its own: frameworks that are imported together fight over the GPU.
_PROBE = """
import importlib, json, os, sys
try:
    version = importlib.import_module(sys.argv[1]).__version__
    from keras_course import _backend
    answer = {"works": True, "version": version, "devices": _backend.describe_devices()}
except Exception as error:
    answer = {"works": False, "error": f"{type(error).__name__}: {error}".splitlines()[0]}
print("\\n" + json.dumps(answer))
"""


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the same as JSON, for programs.")] = False,
) -> int:
    """Say which backends, devices and data are here, and what is missing."""
    report = _examine()
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        _show(report, _console())
    return 0 if report["backend"]["works"] else 2


def _examine() -> dict[str, Any]:
    import platform

    frameworks = _examine_frameworks()
    backend = _examine_choice(frameworks)
    kinds = {device["kind"] for device in frameworks.get(backend["name"], {}).get("devices", [])}
    return {
        "versions": {
            "keras_course": keras_course.__version__,
            "keras": _version("keras"),
            "python": platform.python_version(),
        },
        "frameworks": frameworks,
        "backend": backend,
        "precisions": [name for name in PRECISIONS if name != "tf32" or "gpu" in kinds] if kinds else [],
        "machine": {"system": platform.platform(), "cpus": select.processors(), "memory_bytes": _memory_bytes()},
        "data": _examine_data(),
        "protection": _examine_protection(),
    }


# What holds where it is asked for; a process that limits itself cannot take that back.
_CONFINE = """
import json, os
from keras_course.limits import confine
print(json.dumps(sorted(confine(parent=os.getppid(), memory_bytes=2**40, file_bytes=2**40))))
"""


def _examine_protection() -> dict[str, Any]:
    """Finds out what keeps a model of somebody else within its limits."""
    import subprocess

    from keras_course.limits import landlock_version

    process = select.second_process("", "-c", _CONFINE)
    try:
        done = subprocess.run(**process, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
        holds = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        holds = []
    try:
        namespaces = int(Path("/proc/sys/user/max_user_namespaces").read_text()) > 0
    except (OSError, ValueError):
        namespaces = False
    return {
        "limits": holds,
        "landlock": landlock_version(),
        "landlock_package": select.is_installed("landlock"),
        "user_namespaces": namespaces,
    }


def _examine_frameworks() -> dict[str, dict[str, Any]]:
    probes = {name: _start_probe(name) for name in select.INSTALL if select.is_installed(name)}
    return {
        name: {"version": _version(name), **_answer(probes[name])}
        if name in probes
        else {"version": None, "works": False, "error": "not installed", "install": install}
        for name, install in select.INSTALL.items()
    }


def _start_probe(name: str) -> "subprocess.Popen[str]":
    import subprocess

    process = select.second_process(name, "-c", _PROBE, name)
    return subprocess.Popen(**process, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def _answer(probe: "subprocess.Popen[str]") -> dict[str, Any]:
    import subprocess

    try:
        output, _ = probe.communicate(timeout=_PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        probe.kill()
        probe.communicate()
        return {"works": False, "error": f"no answer in {_PROBE_SECONDS} seconds"}
    try:
        return dict(json.loads(output.splitlines()[-1]))
    except (IndexError, ValueError):
        return {"works": False, "error": f"its import ends Python with exit code {probe.returncode}"}


def _examine_choice(frameworks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    try:
        name, reason = select.choose()
    except CourseError as error:
        return {"name": None, "reason": str(error), "works": False}
    return {"name": name, "reason": reason, "works": frameworks[name]["works"]}


def _examine_data() -> dict[str, Any]:
    from keras_course.datasets import arrays, mnist

    def found(name: str) -> str | None:
        return next((str(file) for file in arrays.places(name) if file.exists()), None)

    return {
        "KERAS_COURSE_DATA": os.environ.get("KERAS_COURSE_DATA"),
        "cache": str(arrays.cache_folder()),
        "mnist": found(mnist.FILE_NAME),
        "hand_signs": found("sign_mnist.npz"),  # `asl`, which says so, needs Keras, and there may be none
        "mnist_sample": mnist.SAMPLE_FILE.exists(),
    }


def _version(package: str) -> str | None:
    from importlib.metadata import packages_distributions, version

    # The import name is not always the distribution: a framework has builds under names of their own.
    try:
        return version(packages_distributions()[package][0])
    except (KeyError, IndexError, OSError, ValueError):  # it is there without a record of how it was installed
        return None


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):  # Windows has no sysconf
        return None


def _show(report: dict[str, Any], console: "Console") -> None:
    from rich.table import Table
    from rich.text import Text

    frameworks = Table(box=None, pad_edge=False)
    for heading in ("backend", "version", "works", "devices, or what to do"):
        frameworks.add_column(heading, overflow="fold")
    for name, framework in report["frameworks"].items():
        works = Text("yes", "green") if framework["works"] else Text("no", "red")
        frameworks.add_row(name, framework["version"] or "-", works, _devices_or_remedy(framework))
    console.print(frameworks, "")

    console.print(_fact_table(_facts(report)))


def _facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Says the report in sentences, one per row."""
    versions, machine, data, backend = report["versions"], report["machine"], report["data"], report["backend"]
    working = [name for name, framework in report["frameworks"].items() if framework["works"]]
    remedy = f"; --backend {working[0]} works" if working and not backend["works"] else ""
    return [
        ("in use", f"{backend['name'] or 'none'}: {backend['reason']}{remedy}"),
        ("precision", ", ".join(report["precisions"]) or "-"),
        ("keras-course", f"{versions['keras_course']}, Keras {versions['keras']}, Python {versions['python']}"),
        ("machine", f"{machine['cpus']} CPUs, {_gibibytes(machine['memory_bytes'])} memory, {machine['system']}"),
        ("MNIST", data["mnist"] or f"not here yet; it is downloaded to {data['cache']} when a lesson needs it"),
        ("hand signs", data["hand_signs"] or "none; drawn ones are used, or what data_scripts/prepare_asl.py makes"),
        ("sample", "10,000 + 2,000 digits in the package" if data["mnist_sample"] else "missing: install again"),
        ("models of others", _protection_in_words(report["protection"])),
        ("shared data", data["KERAS_COURSE_DATA"] or "none; KERAS_COURSE_DATA may name a folder"),
    ]


def _protection_in_words(protection: dict[str, Any]) -> str:
    limits = ", ".join(protection["limits"]) or "none: only its parent limits it"
    if not protection["landlock"]:
        files = "this system has no Landlock to keep it from other files"
    elif protection["landlock_package"]:
        files = f"Landlock {protection['landlock']} keeps it from other files"
    else:
        files = 'Landlock could keep it from other files: pip install "keras-course[sandbox]"'
    return f"opened in a process of their own, with limits of the system ({limits}); {files}"


def _devices_or_remedy(framework: dict[str, Any]) -> str:
    if not framework["works"]:
        return framework.get("install") or framework["error"]
    return "\n".join(map(_device, framework["devices"]))


def _device(device: dict[str, Any]) -> str:
    name, kind, memory = device["name"], device["kind"], device["memory_bytes"]
    parts = (kind, name if name.lower() != kind else None, _gibibytes(memory) if memory else None)
    return ", ".join(filter(None, parts))


def _gibibytes(count: int | None) -> str:
    return f"{count / 2**30:.1f} GiB" if count else "unknown"


def _fact_table(facts: Iterable[tuple[str, str]]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, value)
    return table


def _console() -> "Console":
    from rich.console import Console

    # Names and paths are shown as they are: no square bracket in them is markup, and no number is coloured.
    return Console(markup=False, highlight=False, emoji=False)
