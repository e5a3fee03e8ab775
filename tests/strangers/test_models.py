"""Models of strangers: what their bytes may come from, and what the process may take in which they are opened."""

import asyncio
import os
import re
import shutil
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from keras_course._backend import select
from keras_course.assessment.exam import Exam
from keras_course.assessment.grader import grade
from keras_course.deployment import formats, isolation
from keras_course.deployment.isolation import ModelProcess, ProcessLimits
from keras_course.deployment.locate import read_file
from keras_course.deployment.onnx_files import check_own_tensors
from keras_course.deployment.runtimes import open_model
from keras_course.errors import CourseError
from keras_course.limits import landlock_version

pytestmark = pytest.mark.one_backend

LINKS = pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
KILLS = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="a process cannot be killed like that")


# --- A model's bytes come only from its own files --------------------------------------------------------------


def external(name="weights"):
    """A tensor of ONNX whose numbers are in another file."""
    from onnx import TensorProto

    tensor = TensorProto(name=name, dims=[3], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="secret.bin")
    return tensor


def only_a_list():
    """The same without the word that says so; the list of places is enough to refuse it."""
    tensor = external()
    tensor.ClearField("data_location")
    return tensor


def only_a_word():
    tensor = external()
    tensor.ClearField("external_data")
    return tensor


def graph_with(tensor):
    from onnx import GraphProto

    return GraphProto(initializer=[tensor])


def node_with(**attribute):
    from onnx import AttributeProto, NodeProto

    return NodeProto(attribute=[AttributeProto(name="value", **attribute)])


def sparse(tensor, field):
    from onnx import SparseTensorProto

    made = SparseTensorProto()
    getattr(made, field).CopyFrom(tensor)
    return made


def in_function(node):
    from onnx import FunctionProto

    return {"functions": [FunctionProto(node=[node])]}


def nested(depth):
    """Branches within branches."""
    graph = graph_with(external())
    for _ in range(depth):
        from onnx import GraphProto

        graph = GraphProto(node=[node_with(g=graph)])
    return graph


PLACES = {
    "an initializer": lambda: {"graph": graph_with(external())},
    "an initializer with a list alone": lambda: {"graph": graph_with(only_a_list())},
    "an initializer with a word alone": lambda: {"graph": graph_with(only_a_word())},
    "a constant": lambda: {"graph": {"node": [node_with(t=external())]}},
    "constants": lambda: {"graph": {"node": [node_with(tensors=[external()])]}},
    "the values of a sparse constant": lambda: {
        "graph": {"node": [node_with(sparse_tensor=sparse(external(), "values"))]}
    },
    "the places of sparse constants": lambda: {
        "graph": {"node": [node_with(sparse_tensors=[sparse(external(), "indices")])]}
    },
    "a sparse initializer": lambda: {"graph": {"sparse_initializer": [sparse(external(), "values")]}},
    "a branch": lambda: {"graph": nested(1)},
    "a branch of branches": lambda: {"graph": nested(20)},
    "several branches": lambda: {"graph": {"node": [node_with(graphs=[graph_with(external())])]}},
    "a function": lambda: in_function(node_with(t=external())),
    "a branch of a function": lambda: in_function(node_with(g=graph_with(external()))),
    "what it was trained with": lambda: {"training_info": [{"initialization": graph_with(external())}]},
}


@pytest.mark.parametrize("place", PLACES)
def test_a_tensor_in_another_file_is_refused_wherever_it_is(place):
    from onnx import ModelProto

    content = ModelProto(ir_version=8, **PLACES[place]()).SerializeToString()
    with pytest.raises(CourseError, match="it has a tensor in another file, which is not read"):
        check_own_tensors(content)


def test_models_of_all_kinds_have_their_tensors_themselves(made, tmp_path):
    check_own_tensors(made.save_solver(tmp_path / "a.onnx").read_bytes())


@pytest.mark.parametrize(
    "content",
    [
        b"\x3a",
        b"\x3a\xff\xff\xff\xff\x0f",
        b"\x3a\x05\x2a",
        b"\xff" * 20,
        b"\x3b\x08\x01\x3c",
        b"\x3a\x02\x2a\x7f",
        b"\x38\x01",
        b"\x3a\x00" * 1000 + b"\x3a\x01",
    ],
)
def test_what_is_no_model_is_refused_before_a_runtime_sees_it(content):
    with pytest.raises(CourseError, match="it is damaged"):
        check_own_tensors(content)


def test_a_model_that_is_nested_very_deeply_is_refused():
    content = b""
    for _ in range(60):  # a graph in an attribute of a node of a graph
        for field in (b"\x32", b"\x2a", b"\x0a"):
            content = field + varint(len(content)) + content
    with pytest.raises(CourseError, match="it is nested too deeply"):
        check_own_tensors(b"\x3a" + varint(len(content)) + content)


def varint(number):
    """A number of seven bits a byte, as Protocol Buffers have it."""
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def test_bytes_of_a_file_beside_it_never_come_out(made, tmp_path, monkeypatch):
    """What such a model answered with was the content of a private key."""
    import onnx

    made.save_solver(tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    kernel = next(tensor for tensor in model.graph.initializer if tensor.name == "kernel")
    (tmp_path / "key").write_bytes(np.arange(9, dtype="float32").tobytes())
    onnx.external_data_helper.set_external_data(kernel, location="key")
    kernel.ClearField("raw_data")
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CourseError, match=r"a\.onnx is not opened: it has a tensor in another file"):
        open_model("a.onnx")
    result = grade("a.onnx", Exam(folder=made.photos(tmp_path / "photos", dict.fromkeys(made.COLORS, 2))))
    assert (result.verdict, result.reason[:40]) == ("not graded", "it is not opened: it has a tensor in ano")
    # who trusts it, because it is their own, gets what it says
    assert open_model("a.onnx", trust=True).run(np.ones((1, 12, 16, 3), "uint8")).tolist() == [[9.0, 12.0, 15.0]]


def openvino_model(made, folder):
    select.require("openvino", what="this test", install="pip install openvino")
    made.save_solver(folder / "a.onnx")
    formats.write_openvino(folder / "a.onnx", folder / "net")
    (folder / "net" / "card.json").write_text(made.card().to_json())
    return folder / "net"


@LINKS
@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("name", ["model.bin", "model.xml", "card.json"])
def test_a_folder_with_a_link_in_it_is_no_model(made, tmp_path, link, name):
    net = openvino_model(made, tmp_path)
    (tmp_path / "elsewhere").write_bytes((net / name).read_bytes())
    (net / name).unlink()
    link(tmp_path / "elsewhere", net / name)
    with pytest.raises(CourseError, match=r"copy the file itself"):
        open_model(net)
    result = grade(net, Exam(folder=made.photos(tmp_path / "photos", dict.fromkeys(made.COLORS, 2))))
    assert result.verdict == "not graded"
    assert "copy the file itself" in result.reason


@LINKS
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_to_the_model_of_somebody_else_is_not_graded(made, photos, tmp_path, link):
    (tmp_path / "teacher").mkdir()
    made.save_bare(tmp_path / "teacher" / "model.keras", made.solver())
    (tmp_path / "bob").mkdir()
    link(tmp_path / "teacher" / "model.keras", tmp_path / "bob" / "model.keras")
    for path in (tmp_path / "bob", tmp_path / "bob" / "model.keras"):
        result = grade(path, Exam(folder=photos))
        assert result.verdict == "not graded"
        assert "link" in result.reason
    with pytest.raises(CourseError, match="link"):
        open_model(tmp_path / "bob")


def test_a_file_that_is_exchanged_for_a_link_meanwhile_is_not_read(made, tmp_path):
    path = made.save_solver(tmp_path / "a.onnx")
    formats.check_model_file(formats.find_model_file(path))
    shutil.move(path, tmp_path / "b.onnx")
    path.symlink_to(tmp_path / "b.onnx")
    with pytest.raises(CourseError, match=r"a\.onnx cannot be read"):
        read_file(path)


# --- The process in which they are opened ----------------------------------------------------------------------

# Takes memory in whatever way it can, and says nothing.
EATS = "x = []\nwhile True: x.append(bytearray(2**24))"
CONFINED = (
    "import json, os, sys; from keras_course.limits import confine; confine(parent=json.loads(sys.argv[1])['parent'])\n"
)

OPENS = """
import sys
from keras_course.deployment.runtimes import open_model
runtime = open_model(sys.argv[1])
print(runtime.process.pid, flush=True)
sys.stdin.read()
"""


@KILLS
@pytest.mark.parametrize("kill", ["SIGTERM", "SIGKILL", "SIGHUP"])
def test_it_dies_with_its_parent(made, tmp_path, start, has_ended, kill):
    parent = start(
        "import time\n" + OPENS.replace("sys.stdin.read()", "time.sleep(60)"), made.save_solver(tmp_path / "a.onnx")
    )
    child = int(parent.stdout.readline())
    assert psutil.pid_exists(child)
    parent.send_signal(getattr(signal, kill))
    assert has_ended(parent.pid)
    assert has_ended(child)


def test_it_outlives_the_thread_that_started_it(made, tmp_path):
    """Linux ends a child with the thread of its parent that has started it, unless that is seen to."""
    path = made.save_solver(tmp_path / "a.onnx")
    with ThreadPoolExecutor(1) as pool:
        runtime = pool.submit(open_model, path).result()
    time.sleep(0.2)
    pictures = np.full((2, 12, 16, 3), 7, "uint8")
    np.testing.assert_allclose(runtime.logits(pictures), 7)
    runtime.close()


def test_it_ends_with_the_runtime(made, tmp_path, has_ended):
    runtime = open_model(made.save_solver(tmp_path / "a.onnx"))
    pid, folder = runtime.process.pid, Path(psutil.Process(runtime.process.pid).cwd())
    assert folder.is_dir()
    del runtime
    assert has_ended(pid)
    assert not folder.is_dir()


@KILLS
def test_one_that_has_ended_is_started_again_for_the_next_question(made, tmp_path, has_ended):
    """A service whose model took too long once answered nobody any more."""
    runtime = open_model(made.save_solver(tmp_path / "a.onnx"))
    pictures = np.full((2, 12, 16, 3), 7, "uint8")
    for _ in range(2):
        pid = runtime.process.pid
        os.kill(pid, signal.SIGKILL)
        assert has_ended(pid)
        np.testing.assert_allclose(runtime.logits(pictures), 7)
        assert runtime.process.pid != pid
    runtime.close()


def test_several_threads_are_answered_each_its_own(made, tmp_path):
    runtime = open_model(made.save_solver(tmp_path / "a.onnx"))
    batches = [np.full((1 + number % 5, 12, 16, 3), number, "uint8") for number in range(64)]
    with ThreadPoolExecutor(8) as pool:
        for number, logits in enumerate(pool.map(runtime.logits, batches)):
            np.testing.assert_allclose(logits, np.full((1 + number % 5, 3), number), atol=1e-4)
    runtime.close()


def process(monkeypatch, path, program, **limits):
    monkeypatch.setattr(isolation, "_START", CONFINED + program)
    return ModelProcess(formats.find_model_file(path), ProcessLimits(**limits))


@pytest.mark.parametrize("count", [1, 5, 2000], ids=["1", "5", "more than a pipe holds"])
def test_it_answers_an_event_loop_as_it_answers_a_thread(made, tmp_path, count):
    runtime = open_model(made.save_solver(tmp_path / "a.onnx"))
    pictures = np.random.default_rng(0).integers(0, 256, (count, 12, 16, 3), "uint8")
    soon = asyncio.run(runtime.logits_async(pictures))
    np.testing.assert_array_equal(soon, runtime.logits(pictures))
    with pytest.raises(CourseError, match=r"give \(n, 12, 16, 3\)"):
        asyncio.run(runtime.logits_async(pictures[:, 1:]))
    runtime.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only there can pipes be enlarged")
def test_where_pipes_cannot_be_enlarged_a_thread_sends_what_does_not_fit(made, tmp_path, monkeypatch):
    """Linux limits the memory that the pipes of a user may take."""
    monkeypatch.setattr(isolation, "_PIPE_BYTES", 2**30)
    runtime = open_model(made.save_solver(tmp_path / "a.onnx"))
    for count in (1, 300):
        pictures = np.full((count, 12, 16, 3), 7, "uint8")
        np.testing.assert_allclose(asyncio.run(runtime.logits_async(pictures)), 7)
    runtime.close()


def test_several_tasks_and_threads_are_answered_each_its_own(made, tmp_path):
    runtime = open_model(made.save_solver(tmp_path / "a.onnx"))
    batches = [np.full((1 + number % 5, 12, 16, 3), number, "uint8") for number in range(64)]

    async def ask(number, pictures):
        if number % 3:
            return await runtime.logits_async(pictures)
        return await asyncio.to_thread(runtime.logits, pictures)

    async def ask_all():
        return await asyncio.gather(*(ask(number, pictures) for number, pictures in enumerate(batches)))

    for number, logits in enumerate(asyncio.run(ask_all())):
        np.testing.assert_allclose(logits, np.full((1 + number % 5, 3), number), atol=1e-4)
    runtime.close()


@KILLS
def test_one_that_has_ended_is_started_again_for_an_event_loop(made, tmp_path, has_ended):
    runtime = open_model(made.save_solver(tmp_path / "a.onnx"))
    pid = runtime.process.pid
    os.kill(pid, signal.SIGKILL)
    assert has_ended(pid)
    np.testing.assert_allclose(asyncio.run(runtime.logits_async(np.full((2, 12, 16, 3), 7, "uint8"))), 7)
    assert runtime.process.pid != pid
    runtime.close()


# Reads a request whole, then answers what it wants.
READS = """
import os, sys, time
length = int.from_bytes(sys.stdin.buffer.read(4), "big")
sys.stdin.buffer.read(length + 576)
def say(text, more=b""):
    os.write(1, len(text).to_bytes(4, "big") + text + more)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread asks")
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("os._exit(0)", "ended the process that opened it (exit code 0)"),
        ("os.kill(os.getpid(), 8)", "ended the process that opened it (SIGFPE)"),
        ("time.sleep(60)", "took more than 0.5 seconds"),
        ("os.write(1, b'\\0\\0'); time.sleep(60)", "took more than 0.5 seconds"),
        ('say(b\'{"shape": [1, 3], "bytes": 12}\', bytes(5)); time.sleep(60)', "took more than 0.5 seconds"),
        ("os.write(1, b'\\xff' * 4)", "gave a malformed answer"),
        ("say(b'[1')", "gave a malformed answer"),
        ("say(b'[' * 10**5)", "gave a malformed answer"),
        ("say(b'{\"bytes\": 1000000000000}')", "gives 1,000,000,000,000 bytes, and 12 are expected"),
        ("say(b'{\"bytes\": -1}')", "gives -1 bytes"),
        ("say(b'{\"bytes\": Infinity}')", "gave a malformed answer"),
        ('say(b\'{"bytes": "5"}\')', "gave a malformed answer"),
        ('say(b\'{"shape": [1, 3], "bytes": 5}\', bytes(5))', "gave a malformed answer"),
        ('say(b\'{"shape": [2, 3], "bytes": 12}\', bytes(12))', "gives [2, 3] for 1 pictures"),
        ('say(b\'{"error": "it is \\\\u001b[2J tired"}\')', r"it is \x1b[2J tired"),
    ],
)
def test_an_event_loop_goes_on_whatever_the_process_does(made, tmp_path, monkeypatch, program, reason):
    """To a service, its loop is everybody."""
    path = made.save_solver(tmp_path / "a.onnx")
    beats = 0

    async def ask(running):
        nonlocal beats

        async def beat():
            nonlocal beats
            while True:
                await asyncio.sleep(0.01)
                beats += 1

        beating = asyncio.create_task(beat())
        try:
            with pytest.raises(CourseError, match=re.escape(reason)):
                await running.outputs_async(np.zeros((1, 12, 16, 3), "uint8"), 3)
        finally:
            beating.cancel()

    is_slow = "more than" in reason
    with process(monkeypatch, path, READS + program, seconds=0.5 if is_slow else 30) as running:
        asyncio.run(ask(running))
        if is_slow:
            assert beats > 10


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread asks")
def test_a_process_that_does_not_read_holds_nobody_up(made, tmp_path, monkeypatch):
    """What does not fit into the pipe is not waited for by the event loop."""
    say = "import os, time\nwhile True: os.write(1, b'\\0\\0\\0\\x02{}'); time.sleep(0.2)"
    with process(monkeypatch, made.save_solver(tmp_path / "a.onnx"), say, seconds=2) as running:
        running.receive()

        async def ask():
            for _ in range(3):
                with pytest.raises(CourseError, match=r"gives None for|gave a malformed answer"):
                    await running.outputs_async(np.zeros((1000, 12, 16, 3), "uint8"), 3)
                if running._process.poll() is not None:
                    return

        started = time.monotonic()
        asyncio.run(ask())
        assert time.monotonic() - started < 2
        assert running._process.poll() is not None, "it was sent more than fits"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread asks")
def test_an_answer_that_nobody_waits_for_any_more_is_no_other_questions_answer(made, tmp_path, has_ended):
    runtime = open_model(made.save_solver(tmp_path / "a.onnx"))
    pid = runtime.process.pid

    async def give_up():
        asking = asyncio.create_task(runtime.logits_async(np.full((1, 12, 16, 3), 3, "uint8")))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(give_up())
    np.testing.assert_allclose(runtime.logits(np.full((1, 12, 16, 3), 7, "uint8")), 7)
    assert has_ended(pid)
    runtime.close()


@pytest.mark.parametrize(
    ("program", "limits", "reason"),
    [
        (EATS, {"memory": 100 * 2**20}, "took more than 100 MiB of memory"),
        ("while True: pass", {"seconds": 0.5}, "took more than 0.5 seconds"),
        ("import os, time\nif os.fork(): time.sleep(60)\n" + EATS, {"memory": 200 * 2**20}, "took more than 200 MiB"),
        ("import signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(60)", {"seconds": 0.5}, "0.5 seconds"),
        ("import os; os.kill(os.getpid(), 8)", {}, "ended the process that opened it (SIGFPE)"),
        ("import os; os._exit(0)", {}, "ended the process that opened it (exit code 0)"),
    ],
)
@KILLS
def test_a_limit_holds_whatever_the_trick(made, tmp_path, monkeypatch, has_ended, program, limits, reason):
    path = made.save_solver(tmp_path / "a.onnx")
    with process(monkeypatch, path, program, **limits) as running:
        with pytest.raises(CourseError, match=re.escape(reason)):
            running.introduce()
        assert has_ended(running.pid)


def test_a_model_that_fills_the_memory_ends_in_one_line(made, photos, tmp_path):
    """Answers are made of numbers that a file of a few bytes can ask for without end."""
    from onnx import helper

    nodes = [
        helper.make_node("ReduceMean", ["pictures"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Expand", ["zero", "size"], ["large"]),
        helper.make_node("ReduceSum", ["large"], ["sum"], keepdims=0),
        helper.make_node("Add", ["mean", "sum"], ["logits"]),
    ]
    constants = {"zero": np.float32(0), "size": np.array([2**33], "int64")}
    path = made.save_onnx(tmp_path / "a.onnx", nodes, constants, card=made.card())
    started = time.monotonic()
    with pytest.raises(CourseError, match=r"(?i)memory") as error:
        open_model(path, limits=ProcessLimits(memory=2**29)).logits(np.zeros((1, 12, 16, 3), "uint8"))
    assert "\n" not in str(error.value)
    assert time.monotonic() - started < 30


KEPT = """
import sys
from keras_course.limits import restrict_files
print(restrict_files([sys.argv[1]], [sys.argv[3]]))
for path, mode in ((sys.argv[1], "r"), (sys.argv[2], "r"), (sys.argv[2], "w"), (sys.argv[3] + "/new", "w")):
    try:
        open(path, mode).close()
        print("opened")
    except PermissionError:
        print("refused")
import fractions  # of the program, and not imported yet
"""


@pytest.mark.skipif(not landlock_version(), reason="this kernel has no Landlock")
def test_with_landlock_it_opens_no_file_but_the_model_and_the_programs_own(tmp_path, start):
    pytest.importorskip("landlock")
    model, secret, own = tmp_path / "a.onnx", tmp_path / "key", tmp_path / "own"
    own.mkdir()
    for path in (model, secret):
        path.write_text("...")
    output, error = start(KEPT, model, secret, own).communicate(timeout=60)
    assert output.split() == ["True", "opened", "refused", "refused", "opened"], error
    assert secret.read_text() == "..."


def test_somebody_else_can_end_the_waiting(made, tmp_path, monkeypatch):
    with process(monkeypatch, made.save_solver(tmp_path / "a.onnx"), "import time; time.sleep(60)") as running:
        threading.Timer(0.3, running.cancel).start()
        started = time.monotonic()
        with pytest.raises(CourseError, match="was canceled"):
            running.introduce()
        assert time.monotonic() - started < 5


def test_the_model_of_a_run_is_named_as_it_was_given(tmp_path, monkeypatch):
    (tmp_path / "net.onnx").write_bytes(b"no model")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CourseError, match=r"^net\.onnx is not opened: it is damaged$"):
        open_model("net.onnx")
