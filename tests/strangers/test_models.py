"""Untrusted models: no data from other files, and limits for the process that opens them."""

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

LINKS = pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
KILLS = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")


# --- No data from other files ----------------------------------------------------------------------------------


def external(name="weights"):
    """Returns an ONNX tensor whose numbers are in another file."""
    from onnx import TensorProto

    tensor = TensorProto(name=name, dims=[3], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="secret.bin")
    return tensor


def with_list_only():
    """Returns such a tensor without the flag for external data; the list of locations alone must be refused."""
    tensor = external()
    tensor.ClearField("data_location")
    return tensor


def with_flag_only():
    tensor = external()
    tensor.ClearField("external_data")
    return tensor


def graph_with(tensor):
    from onnx import GraphProto

    return GraphProto(initializer=[tensor])


def node_with(**attribute):
    from onnx import AttributeProto, NodeProto

    return NodeProto(attribute=[AttributeProto(name="value", **attribute)])


def sparse_tensor(tensor, field):
    from onnx import SparseTensorProto

    made = SparseTensorProto()
    getattr(made, field).CopyFrom(tensor)
    return made


def function_with(node):
    from onnx import FunctionProto

    return {"functions": [FunctionProto(node=[node])]}


def nested_branches(depth):
    """Returns a graph of branches within branches."""
    graph = graph_with(external())
    for _ in range(depth):
        from onnx import GraphProto

        graph = GraphProto(node=[node_with(g=graph)])
    return graph


PLACES = {
    "an initializer": lambda: {"graph": graph_with(external())},
    "an initializer with a list alone": lambda: {"graph": graph_with(with_list_only())},
    "an initializer with a word alone": lambda: {"graph": graph_with(with_flag_only())},
    "a constant": lambda: {"graph": {"node": [node_with(t=external())]}},
    "constants": lambda: {"graph": {"node": [node_with(tensors=[external()])]}},
    "the values of a sparse constant": lambda: {
        "graph": {"node": [node_with(sparse_tensor=sparse_tensor(external(), "values"))]}
    },
    "the places of sparse constants": lambda: {
        "graph": {"node": [node_with(sparse_tensors=[sparse_tensor(external(), "indices")])]}
    },
    "a sparse initializer": lambda: {"graph": {"sparse_initializer": [sparse_tensor(external(), "values")]}},
    "a branch": lambda: {"graph": nested_branches(1)},
    "a branch of branches": lambda: {"graph": nested_branches(20)},
    "several branches": lambda: {"graph": {"node": [node_with(graphs=[graph_with(external())])]}},
    "a function": lambda: function_with(node_with(t=external())),
    "a branch of a function": lambda: function_with(node_with(g=graph_with(external()))),
    "what it was trained with": lambda: {"training_info": [{"initialization": graph_with(external())}]},
}


@pytest.mark.parametrize("place", PLACES)
def test_external_data_is_refused_anywhere_in_the_model(place):
    from onnx import ModelProto

    content = ModelProto(ir_version=8, **PLACES[place]()).SerializeToString()
    with pytest.raises(CourseError, match="it has a tensor in another file, which is not read"):
        check_own_tensors(content)


def test_a_model_without_external_data_is_accepted(tools, tmp_path):
    check_own_tensors(tools.save_correct_model(tmp_path / "a.onnx").read_bytes())


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
def test_a_damaged_model_is_refused_before_a_runtime_opens_it(content):
    with pytest.raises(CourseError, match="it is damaged"):
        check_own_tensors(content)


def test_a_deeply_nested_model_is_refused():
    content = b""
    for _ in range(60):  # a graph as an attribute of a node of a graph
        for field in (b"\x32", b"\x2a", b"\x0a"):
            content = field + varint(len(content)) + content
    with pytest.raises(CourseError, match="it is nested too deeply"):
        check_own_tensors(b"\x3a" + varint(len(content)) + content)


def varint(number):
    """Encodes a number as a varint of Protocol Buffers, with seven bits in each byte."""
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def test_a_model_cannot_return_bytes_of_another_file(tools, tmp_path, monkeypatch):
    """Such a model returned the content of a private key."""
    import onnx

    tools.save_correct_model(tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    kernel = next(tensor for tensor in model.graph.initializer if tensor.name == "kernel")
    (tmp_path / "key").write_bytes(np.arange(9, dtype="float32").tobytes())
    onnx.external_data_helper.set_external_data(kernel, location="key")
    kernel.ClearField("raw_data")
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CourseError, match=r"a\.onnx is not opened: it has a tensor in another file"):
        open_model("a.onnx")
    result = grade("a.onnx", Exam(folder=tools.photos(tmp_path / "photos", dict.fromkeys(tools.COLORS, 2))))
    assert (result.verdict, result.reason[:40]) == ("not graded", "it is not opened: it has a tensor in ano")
    # with trust, the external data is used
    assert open_model("a.onnx", trust=True).run(np.ones((1, 12, 16, 3), "uint8")).tolist() == [[9.0, 12.0, 15.0]]


def openvino_model(tools, folder):
    select.require("openvino", what="this test", install="pip install openvino")
    tools.save_correct_model(folder / "a.onnx")
    formats.write_openvino(folder / "a.onnx", folder / "net")
    (folder / "net" / "card.json").write_text(tools.card().to_json())
    return folder / "net"


@LINKS
@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("name", ["model.bin", "model.xml", "card.json"])
def test_a_model_folder_with_a_link_is_refused(tools, tmp_path, link, name):
    net = openvino_model(tools, tmp_path)
    (tmp_path / "elsewhere").write_bytes((net / name).read_bytes())
    (net / name).unlink()
    link(tmp_path / "elsewhere", net / name)
    with pytest.raises(CourseError, match=r"copy the file itself"):
        open_model(net)
    result = grade(net, Exam(folder=tools.photos(tmp_path / "photos", dict.fromkeys(tools.COLORS, 2))))
    assert result.verdict == "not graded"
    assert "copy the file itself" in result.reason


@LINKS
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_to_another_model_is_not_graded(tools, photos, tmp_path, link):
    (tmp_path / "teacher").mkdir()
    tools.save_without_card(tmp_path / "teacher" / "model.keras", tools.correct_model())
    (tmp_path / "bob").mkdir()
    link(tmp_path / "teacher" / "model.keras", tmp_path / "bob" / "model.keras")
    for path in (tmp_path / "bob", tmp_path / "bob" / "model.keras"):
        result = grade(path, Exam(folder=photos))
        assert result.verdict == "not graded"
        assert "link" in result.reason
    with pytest.raises(CourseError, match="link"):
        open_model(tmp_path / "bob")


def test_a_file_that_was_replaced_by_a_link_is_not_read(tools, tmp_path):
    path = tools.save_correct_model(tmp_path / "a.onnx")
    formats.check_model_file(formats.find_model_file(path))
    shutil.move(path, tmp_path / "b.onnx")
    path.symlink_to(tmp_path / "b.onnx")
    with pytest.raises(CourseError, match=r"a\.onnx cannot be read"):
        read_file(path)


# --- The process that opens a model ----------------------------------------------------------------------------

# Allocates memory without an end and answers nothing.
FILL_MEMORY = "x = []\nwhile True: x.append(bytearray(2**24))"
FORK = "import os, time\nif os.fork(): time.sleep(60)\n"
CONFINED = (
    "import json, os, sys; from keras_course.limits import confine; confine(parent=json.loads(sys.argv[1])['parent'])\n"
)

OPEN_MODEL = """
import sys
from keras_course.deployment.runtimes import open_model
runtime = open_model(sys.argv[1])
print(runtime.process.pid, flush=True)
sys.stdin.read()
"""


@KILLS
@pytest.mark.parametrize("kill", ["SIGTERM", "SIGKILL", "SIGHUP"])
def test_the_process_ends_with_its_parent(tools, tmp_path, start, has_ended, kill):
    parent = start(
        "import time\n" + OPEN_MODEL.replace("sys.stdin.read()", "time.sleep(60)"),
        tools.save_correct_model(tmp_path / "a.onnx"),
    )
    child = int(parent.stdout.readline())
    assert psutil.pid_exists(child)
    parent.send_signal(getattr(signal, kill))
    assert has_ended(parent.pid)
    assert has_ended(child)


def test_the_process_continues_after_the_thread_that_started_it(tools, tmp_path):
    """By default, Linux' parent-death signal comes when the thread that started the child ends."""
    path = tools.save_correct_model(tmp_path / "a.onnx")
    with ThreadPoolExecutor(1) as pool:
        runtime = pool.submit(open_model, path).result()
    time.sleep(0.2)
    pictures = np.full((2, 12, 16, 3), 7, "uint8")
    np.testing.assert_allclose(runtime.logits(pictures), 7)
    runtime.close()


def test_the_process_ends_with_the_runtime(tools, tmp_path, has_ended):
    runtime = open_model(tools.save_correct_model(tmp_path / "a.onnx"))
    pid, folder = runtime.process.pid, Path(psutil.Process(runtime.process.pid).cwd())
    assert folder.is_dir()
    del runtime
    assert has_ended(pid)
    assert not folder.is_dir()


@KILLS
def test_an_ended_process_is_restarted_for_the_next_request(tools, tmp_path, has_ended):
    """Otherwise a service would stop answering after one model call that takes too long."""
    runtime = open_model(tools.save_correct_model(tmp_path / "a.onnx"))
    pictures = np.full((2, 12, 16, 3), 7, "uint8")
    for _ in range(2):
        pid = runtime.process.pid
        os.kill(pid, signal.SIGKILL)
        assert has_ended(pid)
        np.testing.assert_allclose(runtime.logits(pictures), 7)
        assert runtime.process.pid != pid
    runtime.close()


def test_each_of_several_threads_gets_its_own_answer(tools, tmp_path):
    runtime = open_model(tools.save_correct_model(tmp_path / "a.onnx"))
    batches = [np.full((1 + number % 5, 12, 16, 3), number, "uint8") for number in range(64)]
    with ThreadPoolExecutor(8) as pool:
        for number, logits in enumerate(pool.map(runtime.logits, batches)):
            np.testing.assert_allclose(logits, np.full((1 + number % 5, 3), number), atol=1e-4)
    runtime.close()


def start_process(monkeypatch, path, program, **limits):
    monkeypatch.setattr(isolation, "_START", CONFINED + program)
    return ModelProcess(formats.find_model_file(path), ProcessLimits(**limits))


@pytest.mark.parametrize("count", [1, 5, 2000], ids=["1", "5", "more than a pipe holds"])
def test_logits_async_equals_logits(tools, tmp_path, count):
    runtime = open_model(tools.save_correct_model(tmp_path / "a.onnx"))
    pictures = np.random.default_rng(0).integers(0, 256, (count, 12, 16, 3), "uint8")
    soon = asyncio.run(runtime.logits_async(pictures))
    np.testing.assert_array_equal(soon, runtime.logits(pictures))
    with pytest.raises(CourseError, match=r"give \(n, 12, 16, 3\)"):
        asyncio.run(runtime.logits_async(pictures[:, 1:]))
    runtime.close()


@pytest.mark.skipif(sys.platform != "linux", reason="pipes can be enlarged only on Linux")
def test_large_requests_work_with_small_pipes(tools, tmp_path, monkeypatch):
    """Linux limits the total pipe memory of a user; then a thread sends the rest."""
    monkeypatch.setattr(isolation, "_PIPE_BYTES", 2**30)
    runtime = open_model(tools.save_correct_model(tmp_path / "a.onnx"))
    for count in (1, 300):
        pictures = np.full((count, 12, 16, 3), 7, "uint8")
        np.testing.assert_allclose(asyncio.run(runtime.logits_async(pictures)), 7)
    runtime.close()


def test_each_of_several_tasks_and_threads_gets_its_own_answer(tools, tmp_path):
    runtime = open_model(tools.save_correct_model(tmp_path / "a.onnx"))
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
def test_an_ended_process_is_restarted_for_an_event_loop(tools, tmp_path, has_ended):
    runtime = open_model(tools.save_correct_model(tmp_path / "a.onnx"))
    pid = runtime.process.pid
    os.kill(pid, signal.SIGKILL)
    assert has_ended(pid)
    np.testing.assert_allclose(asyncio.run(runtime.logits_async(np.full((2, 12, 16, 3), 7, "uint8"))), 7)
    assert runtime.process.pid != pid
    runtime.close()


# Reads a complete request and then runs the program of the test.
READ_REQUEST = """
import os, sys, time
length = int.from_bytes(sys.stdin.buffer.read(4), "big")
sys.stdin.buffer.read(length + 576)
def say(text, more=b""):
    os.write(1, len(text).to_bytes(4, "big") + text + more)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems use a thread")
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
        ('say(b\'{"shape": [2, 3], "bytes": 12}\', bytes(12))', "gives [2, 3] for 1 inputs"),
        ('say(b\'{"error": "it is \\\\u001b[2J tired"}\')', r"it is \x1b[2J tired"),
    ],
)
def test_a_misbehaving_process_does_not_block_the_event_loop(tools, tmp_path, monkeypatch, program, reason):
    """All clients of a service share the event loop."""
    path = tools.save_correct_model(tmp_path / "a.onnx")
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
    with start_process(monkeypatch, path, READ_REQUEST + program, seconds=0.5 if is_slow else 30) as running:
        asyncio.run(ask(running))
        if is_slow:
            assert beats > 10


@pytest.mark.skipif(sys.platform != "linux", reason="other systems use a thread")
def test_a_process_that_does_not_read_does_not_block_the_event_loop(tools, tmp_path, monkeypatch):
    """The event loop does not wait until a request fits into the pipe."""
    say = "import os, time\nwhile True: os.write(1, b'\\0\\0\\0\\x02{}'); time.sleep(0.2)"
    with start_process(monkeypatch, tools.save_correct_model(tmp_path / "a.onnx"), say, seconds=2) as running:
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
        assert running._process.poll() is not None, "the request was larger than the pipe"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems use a thread")
def test_the_answer_to_a_canceled_request_is_not_used_for_the_next(tools, tmp_path, has_ended):
    runtime = open_model(tools.save_correct_model(tmp_path / "a.onnx"))
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
        (FILL_MEMORY, {"memory": 100 * 2**20}, "took more than 100 MiB of memory"),
        ("while True: pass", {"seconds": 0.5}, "took more than 0.5 seconds"),
        (
            "import os, time\nif os.fork(): time.sleep(60)\n" + FILL_MEMORY,
            {"memory": 200 * 2**20},
            "took more than 200 MiB",
        ),
        ("import signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(60)", {"seconds": 0.5}, "0.5 seconds"),
        ("import os; os.kill(os.getpid(), 8)", {}, "ended the process that opened it (SIGFPE)"),
        ("import os; os._exit(0)", {}, "ended the process that opened it (exit code 0)"),
    ],
)
@KILLS
def test_limits_of_time_and_memory_are_enforced(tools, tmp_path, monkeypatch, has_ended, program, limits, reason):
    path = tools.save_correct_model(tmp_path / "a.onnx")
    with start_process(monkeypatch, path, program, **limits) as running:
        with pytest.raises(CourseError, match=re.escape(reason)):
            running.introduce()
        assert has_ended(running.pid)


def test_a_model_that_fills_the_memory_ends_in_a_one_line_error(tools, photos, tmp_path):
    """A file of a few bytes can allocate any amount of memory while it computes."""
    from onnx import helper

    nodes = [
        helper.make_node("ReduceMean", ["pictures"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Expand", ["zero", "size"], ["large"]),
        helper.make_node("ReduceSum", ["large"], ["sum"], keepdims=0),
        helper.make_node("Add", ["mean", "sum"], ["logits"]),
    ]
    constants = {"zero": np.float32(0), "size": np.array([2**33], "int64")}
    path = tools.save_onnx(tmp_path / "a.onnx", nodes, constants, card=tools.card())
    started = time.monotonic()
    with pytest.raises(CourseError, match=r"(?i)memory") as error:
        open_model(path, limits=ProcessLimits(memory=2**29)).logits(np.zeros((1, 12, 16, 3), "uint8"))
    assert "\n" not in str(error.value)
    assert time.monotonic() - started < 30


OPEN_FILES = """
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
def test_landlock_allows_only_the_model_and_files_of_the_program(tmp_path, start):
    pytest.importorskip("landlock")
    model, secret, own = tmp_path / "a.onnx", tmp_path / "key", tmp_path / "own"
    own.mkdir()
    for path in (model, secret):
        path.write_text("...")
    output, error = start(OPEN_FILES, model, secret, own).communicate(timeout=60)
    assert output.split() == ["True", "opened", "refused", "refused", "opened"], error
    assert secret.read_text() == "..."


def test_waiting_for_a_process_can_be_canceled(tools, tmp_path, monkeypatch):
    with start_process(
        monkeypatch, tools.save_correct_model(tmp_path / "a.onnx"), "import time; time.sleep(60)"
    ) as running:
        threading.Timer(0.3, running.cancel).start()
        started = time.monotonic()
        with pytest.raises(CourseError, match="was canceled"):
            running.introduce()
        assert time.monotonic() - started < 5


def test_errors_name_the_model_by_the_given_path(tmp_path, monkeypatch):
    (tmp_path / "net.onnx").write_bytes(b"no model")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CourseError, match=r"^net\.onnx is not opened: it is damaged$"):
        open_model("net.onnx")
