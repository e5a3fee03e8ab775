"""The command ``keras-course``: lists and runs lessons, uses and grades models, and examines this machine."""

import gc
import json
import os
import re
import runpy
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import keras_course
from keras_course._backend import select
from keras_course.assessment import MOST_MEBIBYTES, MOST_SECONDS, PASS_MARK
from keras_course.deployment.formats import FORMATS, find_model_file
from keras_course.deployment.locate import is_pretrained
from keras_course.errors import CourseError, check_positive
from keras_course.foreign_text import printable
from keras_course.lesson import explain_errors
from keras_course.progress import with_progress_bar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from keras_course.assessment.exam import Exam
    from keras_course.assessment.grades import Grade
    from keras_course.deployment.answers import Prediction
    from keras_course.deployment.runtimes import Runtime

_LONGEST_SHOWN = 80
"""The number of characters of a text that are shown beside its answers."""

app = typer.Typer(add_completion=False, help="Deep learning, one lesson at a time.")

# Options of several commands.
_Folder = Annotated[Path | None, typer.Option("--folder", help="Folder of the lessons, if not the course's own.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
_Backend = Annotated[str, typer.Option("--backend", metavar="NAME", help=f"Backend: {', '.join(select.INSTALL)}.")]
_Model = Annotated[
    str, typer.Argument(metavar="RUN", help="Run folder, .keras file, export, or name of a pre-trained model.")
]
_Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Also open formats in which a model can run code or end the process. Only for models that you made.",
    ),
]


def main() -> None:
    """Runs the command line and ends with its exit code; a mistake ends with one line on stderr and exit code 2."""
    explain_errors()
    command = typer.main.get_command(app)
    try:
        exit_code = command.main(sys.argv[1:] or ["--help"], prog_name="keras-course", standalone_mode=False)
    except Exception as error:
        # Typer would draw a box. Its errors have this method in every version.
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
    """The description of a lesson in its first cell."""

    path: Path
    title: str
    needs: str
    data: str
    time: str

    @property
    def name(self) -> str:
        """The file name without its ending, such as ``04_mnist_dense``."""
        return self.path.stem


def lessons_folder() -> Path:
    """Returns the folder of the lessons: inside an installed package, or beside the package in a checkout."""
    # the installed folder first: site-packages may hold the "examples" of another package
    package = Path(__file__).parent
    installed = package / "_lessons"
    return installed if installed.is_dir() else package.parent / "examples"


def find_lessons(folder: Path) -> list[Lesson]:
    """Returns the descriptions of all lessons in a folder, in the order of their numbers."""
    lessons = [_read_head(path) for path in sorted(folder.glob("[0-9][0-9]_*.py"))]
    if not lessons:
        raise CourseError(f"there are no lessons in {folder}; give --folder with numbered scripts")
    return lessons


def find_lesson(name: str, folder: Path) -> Lesson:
    """Returns a lesson by its number or an unambiguous beginning of its name, as ``mnist`` of ``04_mnist_dense``."""
    lessons = find_lessons(folder)
    wanted = Path(name).stem
    # a whole name before a beginning: "asl_cnn" is 06_asl_cnn, even if there is also an asl_cnn_deep
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
    """Reads the first markdown cell; missing facts are empty."""
    with path.open(encoding="utf-8") as file:
        lines = iter(file)
        next((line for line in lines if line.startswith("# %% [markdown]")), None)
        cell = []
        for line in lines:
            if not line.startswith("#") or line.startswith("# %%"):
                break
            cell.append(line.rstrip()[1:].removeprefix(" "))
    title, _, text = "\n".join(cell).partition("\n")
    facts = dict(re.findall(r"^- (\w+): (.+(?:\n +.+)*)", text, flags=re.MULTILINE))
    needs, data, time = (" ".join(facts.get(fact, "").split()) for fact in ("needs", "data", "time"))
    title = title.removeprefix("# ").rpartition(" · ")[2] or path.stem
    return Lesson(path, title, needs, data, time)


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
    name: Annotated[str, typer.Argument(metavar="LESSON", help="Name or number of the lesson.")],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="OPTIONS", help="Options of the lesson; LESSON --help lists them.")
    ] = None,
    folder: _Folder = None,
) -> None:
    """Run a lesson, as `python LESSON.py OPTIONS` would."""
    lesson = find_lesson(name, folder or lessons_folder())
    sys.argv = [str(lesson.path), *(options or [])]
    try:
        runpy.run_path(str(lesson.path), run_name="__main__")
    except KeyboardInterrupt as interrupt:
        # Typer would swallow it; the hook prints the same message as for the script itself
        sys.excepthook(type(interrupt), interrupt, interrupt.__traceback__)


# --- play ------------------------------------------------------------------------------------------------------


@app.command()
def play(
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="The page to write.")] = Path(
        "keras_course_play.html"
    ),
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only write the page, do not open it.")] = False,
) -> None:
    """Write a page to experiment with gradient descent, and open it."""
    import webbrowser

    from keras_course.play import write_page

    page = write_page(output)
    opened = not no_browser and _has_display() and webbrowser.open(page.as_uri())
    print(f"{page} is {'open in your browser' if opened else 'written; open it in a browser'}")


def _has_display() -> bool:
    """Returns True if a browser can show a window; else Python would start a text browser in the terminal."""
    return sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))


# --- predict ---------------------------------------------------------------------------------------------------


@app.command()
def predict(
    model: _Model,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Pictures, or folders of pictures. For a text model: texts, .txt files with a text in each line, or - "
            "for the standard input.",
        ),
    ],
    top: Annotated[int, typer.Option("--top", metavar="N", help="Number of classes to show.")] = 3,
    cut: Annotated[bool, typer.Option("--cut", help="Cut texts that are too long for the model.")] = False,
    as_json: _Json = False,
    backend: _Backend = "",
    trust: _Trust = False,
) -> int:
    """Classify pictures or texts, or predict the next word of texts."""
    check_positive(top=top)
    takes_texts = _takes_texts(model)
    start = partial(_start_predicting, inputs, top=top, cut=cut)
    if takes_texts is None:
        runtime = _open_model(model, backend, trust=trust)()
        predict_all = start(takes_texts=runtime.card.text_format is not None)
    else:  # a mistake in the inputs is found before the model is opened
        predict_all = start(takes_texts=takes_texts)
        runtime = _open_model(model, backend, trust=trust)()
    predictions = predict_all(runtime)
    if as_json:
        facts = {"model": str(runtime.path), "format": runtime.format, "runtime": runtime.name}
        print(json.dumps({**facts, "predictions": [prediction.to_dict() for prediction in predictions]}, indent=2))
    else:
        _show_predictions(predictions, runtime)
    return 2 if all(prediction.error for prediction in predictions) else 0


def _takes_texts(model: str) -> bool | None:
    """Returns whether a model takes texts, None if only its runtime can read its card."""
    if is_pretrained(model):
        return False
    file = find_model_file(model)
    if not file.is_keras:
        return None
    from keras_course.cards import read_card

    with suppress(CourseError):  # opening the model explains it
        card = read_card(file.path)
        return card is not None and card.text_format is not None
    return None


def _start_predicting(
    inputs: list[str], *, takes_texts: bool, top: int, cut: bool
) -> "Callable[[Runtime], list[Prediction]]":
    """Finds pictures or texts, and returns a function from a model to their predictions, with a progress bar."""
    if takes_texts:
        from keras_course.deployment.texts import find_texts, predict_texts

        texts = find_texts(inputs)
        settings: dict[str, Any] = {"top": top, "cut": cut, "how_to_cut": "add --cut"}
        return lambda runtime: with_progress_bar(predict_texts(runtime, texts, **settings), len(texts), "texts")
    from keras_course.deployment.predict import find_pictures
    from keras_course.deployment.predict import predict as predict_pictures

    if cut:
        raise CourseError("--cut is for texts, and the model takes pictures; leave it out")
    found = find_pictures(inputs)
    return lambda runtime: with_progress_bar(predict_pictures(runtime, found, top=top), len(found), "pictures")


def _open_model(model: str, backend: str, *, trust: bool) -> "Callable[[], Runtime]":
    """Starts to open a model, and returns a function that waits for it.

    Unless the model is trusted, another process opens it. This process can then import what it needs in the meantime.
    """
    from keras_course.deployment.isolation import start_model

    if is_pretrained(model):
        _start_keras(backend)
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
            _start_keras(backend)
        return open_here(file, trust=True)

    return wait


def _start_keras(backend: str) -> None:
    select.use(backend)
    select.import_keras()


def _show_predictions(predictions: "list[Prediction]", runtime: "Runtime") -> None:
    from rich.text import Text

    facts = [
        ("model", printable(f"{runtime.path} ({runtime.card.title})")),
        ("format", runtime.format),
        ("runtime", f"{runtime.name}, opened in {runtime.seconds:.1f} s"),
    ]
    console = _console()
    console.print(_fact_table(facts), "")
    table = _plain_table(runtime.card.kind, "answers")
    for prediction in predictions:
        shown = [f"{_shown_class(answer.class_name)} {answer.probability:.1%}" for answer in prediction.answers]
        answers = Text.assemble(printable("   ".join(shown)), (prediction.note and f"\n{prediction.note}", "dim"))
        name = (
            prediction.name
            if prediction.kind == "picture" or len(prediction.name) <= _LONGEST_SHOWN
            else (f"{prediction.name[: _LONGEST_SHOWN - 3]}...")
        )
        error = Text(printable(prediction.error), "red")
        table.add_row(printable(name), error if prediction.error else answers)
    console.print(table)


def _shown_class(name: str) -> str:
    """Returns the name of a class, in quotation marks if it is a space or another sign that could be overlooked."""
    return name if name.strip() == name else repr(name)


# --- serve -----------------------------------------------------------------------------------------------------


@contextmanager
def _garbage_collection_paused() -> Iterator[None]:
    """Pauses the garbage collection during imports, which leave no garbage; it would take a tenth of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # the objects of the imports stay
        gc.enable()


@app.command()
def serve(
    model: _Model,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="0.0.0.0 to serve other machines, too.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", metavar="N", help="0 for a free port.")] = 8000,
    requests: Annotated[int, typer.Option("--requests", metavar="N", help="Largest number of requests at once.")] = 256,
    seconds: Annotated[int, typer.Option("--seconds", metavar="N", help="Longest time for a request.")] = 20,
    allowed_hosts: Annotated[
        list[str] | None,
        typer.Option("--allowed-host", metavar="NAME", help="Further host name of the service; may be repeated."),
    ] = None,
    backend: _Backend = "",
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    log: Annotated[bool, typer.Option("--log", help="Write a line for each request to standard error.")] = False,
    trust: _Trust = False,
) -> None:
    """Answer pictures or texts on a web page, and over HTTP."""
    from keras_course.deployment.serve import address, bind, check_hosts, check_installed
    from keras_course.deployment.serve import serve as serve_model

    check_installed()
    check_hosts(allowed_hosts or [])
    check_positive(requests=requests, seconds=seconds)
    with bind(host, port) as listening:  # first, because opening the model takes time
        with _garbage_collection_paused():
            wait_for_model = _open_model(model, backend, trust=trust)
            # imported while the model is opened
            from keras_course.deployment import connections, service  # noqa: F401
            from keras_course.deployment.guard import RequestLimits

            limits = RequestLimits(requests=requests, seconds=seconds)
            runtime = wait_for_model()

        def ready() -> None:
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
    model: Annotated[
        str, typer.Argument(metavar="RUN", help="Run folder, .keras file, or name of a pre-trained model.")
    ],
    kind: Annotated[str, typer.Option("--format", metavar="NAME", help=", ".join(FORMATS))],
    output: Annotated[Path | None, typer.Option("--output", metavar="PATH", help="File or folder to write.")] = None,
    backend: _Backend = "",
    quantize: Annotated[
        str, typer.Option("--quantize", metavar="KIND", help="int8: weights of 8 bits, for the format onnx.")
    ] = "",
    trust: _Trust = False,
) -> None:
    """Write a model in another format, and check that it gives the same answers there."""
    from keras_course.deployment.export import export_model

    if not is_pretrained(model):
        find_model_file(model)  # a wrong name fails before Keras starts
    if trust or is_pretrained(model):
        _start_keras(backend)
    exported = export_model(model, format=kind, output=output, quantize=quantize, trust=trust, backend=backend)
    print(f"{exported.path}: {exported.size:,} bytes, written by {exported.written_by}")
    cosine = "" if exported.cosine is None else f", smallest cosine {exported.cosine:.4f}"
    print(f"{exported.runtime}: largest difference from Keras' logits {exported.difference:.1g}{cosine}")


# --- assess ----------------------------------------------------------------------------------------------------

_Data = Annotated[
    Path,
    typer.Option("--data", metavar="FOLDER", help="Photos of the exam: a folder for each class, or parts with them."),
]
_Parts = Annotated[
    list[str] | None, typer.Option("--part", metavar="NAME", help="Parts of the folder to use: valid, test, or both.")
]
_Classes = Annotated[
    list[str] | None,
    typer.Option(
        "--class", metavar="FOLDER[=CLASS]", help="Folder to use, and its class; may be repeated. * matches any name."
    ),
]
_PassMark = Annotated[float, typer.Option("--pass-mark", metavar="SHARE", help="Accuracy needed to pass.")]
_Key = Annotated[Path | None, typer.Option("--key", metavar="FILE", help="Key to sign results; new-key makes one.")]
_Seconds = Annotated[int, typer.Option("--seconds", metavar="N", help="Longest time for a model.")]
_Memory = Annotated[int, typer.Option("--memory", metavar="MIB", help="Most memory for a model.")]


@app.command()
def assess(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Run folder, .keras file, or export as ONNX.")],
    data: _Data,
    parts: _Parts = None,
    classes: _Classes = None,
    pass_mark: _PassMark = PASS_MARK,
    key: _Key = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FOLDER", help="Folder for result.json and pictures.")
    ] = None,
    learner: Annotated[str, typer.Option("--learner", metavar="NAME", help="Learner named in the result.")] = "",
    as_json: _Json = False,
    seconds: _Seconds = MOST_SECONDS,
    memory: _Memory = MOST_MEBIBYTES,
    backend: _Backend = "",
) -> int:
    """Grade a model; the exit code is 0 if it passed, else 1."""
    from keras_course.assessment.grader import GradingLimits, grade
    from keras_course.assessment.grades import read_key, sign, write_result

    secret = read_key(key) if key else None
    exam = _exam(data, parts, classes, pass_mark)
    limits = GradingLimits(seconds=seconds, memory=memory * 2**20)
    result = grade(model, exam, limits=limits, backend=backend, figures=output, learner=learner)
    signed = sign(result, secret)
    if output is not None:
        write_result(signed, output / "result.json")
    if as_json:
        print(json.dumps(signed, indent=2))
    else:
        _show_grade(result)
    return 0 if result.passed else 1


@app.command()
def classroom(
    submissions: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder with a model, or a folder with one model, of each learner.")
    ],
    data: _Data,
    output: Annotated[Path, typer.Option("--output", metavar="FOLDER", help="Folder for the table and the page.")],
    parts: _Parts = None,
    classes: _Classes = None,
    pass_mark: _PassMark = PASS_MARK,
    key: _Key = None,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", help="Number of models at the same time.")] = 0,
    seconds: _Seconds = MOST_SECONDS,
    memory: _Memory = MOST_MEBIBYTES,
    backend: _Backend = "",
) -> None:
    """Grade the models of a whole class into a table and a page."""
    from keras_course.assessment.classroom import find_other_files, find_submissions, grade_all
    from keras_course.assessment.grader import GradingLimits
    from keras_course.assessment.grades import read_key

    secret = read_key(key) if key else None
    exam = _exam(data, parts, classes, pass_mark)
    found, others = find_submissions(submissions), find_other_files(submissions)
    processors = select.processors()
    # each process starts a backend, which takes a processor and some memory
    at_once = jobs or max(1, min(len(found), processors, (select.memory_bytes() or 0) // (memory * 2**20)))
    limits = GradingLimits(seconds=seconds, memory=memory * 2**20, threads=max(1, processors // at_once))
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
        print(f"{name}: ignored, it is not a model")


@app.command("new-key")
def make_key(path: Annotated[Path, typer.Argument(metavar="FILE", help="File to write.")]) -> None:
    """Make a key to sign results."""
    from keras_course.assessment.grades import new_key

    new_key(path)
    print(f"{path}: a new key; anyone who can read it can sign results")


@app.command()
def verify(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="A result.json.")],
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="Key that signed the result.")],
    model: Annotated[
        Path | None, typer.Option("--model", metavar="MODEL", help="Check that the result is for this model.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FOLDER", help="Check that the exam used these photos.")
    ] = None,
    learner: Annotated[
        str | None, typer.Option("--learner", metavar="NAME", help="Check that the result is for this learner.")
    ] = None,
) -> None:
    """Check that a result is signed and unchanged."""
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


def _show_grade(result: "Grade") -> None:
    from rich.text import Text

    console = _console()
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

    matrix = _plain_table("class")
    for name in (*map(printable, result.class_names), "recall"):
        matrix.add_column(name, justify="right", overflow="fold")
    for name, row, recall in zip(result.class_names, result.confusion_matrix, result.recalls, strict=True):
        matrix.add_row(printable(name), *map(str, row), f"{recall:.1%}")
    console.print(matrix, "")

    mistakes = _plain_table("worst mistakes", "class", "answer")
    for photo, label, answer, probability in result.mistakes[:8]:
        mistakes.add_row(photo, printable(label), printable(f"{answer} {probability:.1%}"))
    if result.mistakes:
        console.print(mistakes)


# --- doctor ----------------------------------------------------------------------------------------------------


@app.command()
def doctor(as_json: _Json = False) -> int:
    """Examine the backends, devices and data of this machine."""
    from keras_course import doctor as examination

    report = examination.examine()
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        from rich.text import Text

        table = _plain_table("backend", "version", "works", "devices, or what to do")
        for name, version, works, remedy in examination.framework_rows(report):
            table.add_row(name, version, Text("yes", "green") if works else Text("no", "red"), remedy)
        console = _console()
        console.print(table, "")
        console.print(_fact_table(examination.facts(report)))
    return 0 if report["backend"]["works"] else 2


# --- tables ----------------------------------------------------------------------------------------------------


def _plain_table(*headings: str) -> "Table":
    """Returns an empty table without lines."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _fact_table(facts: Iterable[tuple[str, str]]) -> "Table":
    """Returns a table of names and values."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, value)
    return table


def _console() -> "Console":
    from rich.console import Console

    # names and paths are printed literally: square brackets are no markup, and numbers are not colored
    return Console(markup=False, highlight=False, emoji=False)
