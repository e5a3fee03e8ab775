"""Times ``keras_course.training.fit`` beside its alternatives, in one run.

    KERAS_BACKEND=torch python benchmarks/training.py
    python benchmarks/training.py --backend jax --rounds 11 --batch-sizes 32 128 --profile --json jax.json

The task: 784-512-512-10 with ReLU, Adam at 0.001, an epoch over 10,000 digits. It compares:

- ``fit`` of this package, without progress bar and validation; it also measures the accuracy;
- the loop that an expert would write by hand in the framework, without Keras (``hand_written_<backend>.py``), in
  several variants; the fastest counts, except those marked "extra". They get the shuffled order of each epoch, return
  the loss of each step, and measure no accuracy;
- ``Model.fit`` of Keras with its defaults (except ``verbose=0``), and with its fastest settings.

Each candidate runs in a separate process, with its own threads, memory, framework settings and peak of memory (as the
operating system counts it, including framework, compiler and digits; on a GPU, only the host's memory). The processes
take turns: in each round, each one trains for one epoch while the others wait. Speeds are the median (lowest ..
highest) over the rounds; "speed of fit to this" is the median of the ratios within each round, above 1 if ``fit`` is
faster.

Two epochs come before the first round. The first one checks that all do the same work: with the same weights and
batches, the losses of the first 20 steps must agree within 0.001, or the run ends with an error. After it Keras
shuffles by itself, as is its default; the others use the same order. "compiling" is the extra time of the first epoch.

It takes one to three minutes for each backend on two cores. The results are reliable only on an idle machine; the load
at the start is printed. On a GPU the processes share it: JAX and TensorFlow are configured not to reserve all memory.
"""

import argparse
import importlib
import json
import multiprocessing
import os
import platform
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, Self

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from keras_course._backend import select
from keras_course.errors import CourseError, check_positive
from keras_course.lesson import explain_errors

# Keras and frameworks are imported only inside functions that run in separate processes: the peak memory of a child is
# never below that of its parent, so the parent must stay small.

LEARNING_RATE = 0.001
SEED = 0
WARM_UP_EPOCHS = 2
STEPS_TO_COMPARE = 20
# Keras computes Adam's bias correction in float32, PyTorch in float64, so Keras' learning rate is 7e-6 lower. That
# alone changes losses by 5e-6; with batches of 128 it flips a ReLU, and the losses differ by 7e-4 within 20 steps.
LARGEST_LOSS_DIFFERENCE = 1e-3
FILE_WIDTH = 130  # characters of a line if the output is not a terminal
SETTLE_SECONDS = 0.05  # threads of the previous contestant can spin for a while


@dataclass(frozen=True)
class Contestant:
    """One way to train the network."""

    name: str
    run: Callable[["Turns", "Task"], None]
    variant: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    is_extra: bool = False
    losses_are_checked: bool = True


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """The digits that ship with the package."""
    from keras_course.datasets import mnist

    return mnist.load_data("sample")[0]


@dataclass(frozen=True)
class Net:
    """What is trained: a builder of ``keras_course.models``, the data, and the modules with the loops by hand."""

    builder: str = "dense_classifier"
    arguments: dict[str, Any] = field(default_factory=dict)
    data: Callable[[], tuple[np.ndarray, np.ndarray]] = load_digits
    hand_written: str = "hand_written"

    def build(self) -> Any:
        """The Keras model with its initial weights."""
        from keras_course import models

        return getattr(models, self.builder)(seed=SEED, **self.arguments)


@dataclass(frozen=True)
class Task:
    """The settings of the process of a contestant."""

    contestant: Contestant
    net: Net
    backend: str
    batch_size: int
    epochs: int
    data_file: Path

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the samples and the labels."""
        with np.load(self.data_file) as file:
            return file["x"], file["y"]

    def weights(self) -> list[np.ndarray]:
        """Returns the initial kernels and biases."""
        with np.load(self.data_file) as file:
            return [file[name] for name in file.files if name.startswith("weights")]

    def orders(self) -> np.ndarray:
        """Returns the order of the samples in each epoch, (epochs, samples)."""
        with np.load(self.data_file) as file:
            return file["orders"]


@dataclass(frozen=True)
class Lap:
    """The measurements of one epoch of a contestant."""

    seconds: float
    losses: list[float]  # of the first steps, each a mean over `steps_a_loss` steps; used only in the first epoch
    steps_a_loss: int
    imports_mib: float
    peak_mib: float
    parts: dict[str, float]  # seconds by activity


class Turns:
    """The connection of a contestant: waits for its turn and reports the time of an epoch."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._imports_mib = 0.0
        self._started = 0.0

    def imported(self) -> None:
        """Records the memory after the imports."""
        self._imports_mib = peak_mib()

    def start(self) -> None:
        """Waits for the turn of this contestant."""
        self._connection.recv()
        self._started = time.perf_counter()

    def stop(
        self, losses: Sequence[float] = (), *, steps_a_loss: int = 1, parts: dict[str, float] | None = None
    ) -> None:
        """Reports the epoch that began at ``start``; the device must have finished it."""
        seconds = time.perf_counter() - self._started
        first = [float(loss) for loss in losses[: STEPS_TO_COMPARE // steps_a_loss]]
        self._connection.send(Lap(seconds, first, steps_a_loss, self._imports_mib, peak_mib(), parts or {}))


def peak_mib() -> float:
    """Returns the peak memory of this process in MiB."""
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


# The contestants. Each runs in one separate process for all epochs.


def run_fit(turns: Turns, task: Task) -> None:
    """Runs ``fit`` of this package, which waits for its turn before each epoch."""
    _run_fit(turns, task, parts=None)


def run_fit_timed_inside(turns: Turns, task: Task) -> None:
    """Runs ``fit`` of this package and times its parts."""
    from keras_course import _backend

    fitting = importlib.import_module("keras_course.training.fit")
    parts: defaultdict[str, float] = defaultdict(float)
    make_loop, groups = _backend.training_loop, fitting.Batches.groups

    def timed_groups(*arguments: Any, **options: Any) -> Iterator[Any]:
        iterator = groups(*arguments, **options)
        while True:
            with _clock(parts, "batches on the host"):
                group = next(iterator, None)
            if group is None:
                return
            yield group

    _backend.training_loop = lambda *arguments: _TimedLoop(make_loop(*arguments), parts)
    fitting.Batches.groups = timed_groups
    _run_fit(turns, task, parts)


def _run_fit(turns: Turns, task: Task, parts: defaultdict[str, float] | None) -> None:
    import keras

    fitting = importlib.import_module("keras_course.training.fit")
    turns.imported()
    model = task.net.build()
    run_epoch, choose_steps = fitting._Trainer.run_epoch, fitting.choose_steps
    losses: list[list[float]] = []

    def stop() -> None:
        _wait_for_device(model)
        turns.stop(losses[-1], parts=dict(parts or {}))

    def choose_steps_in_turn(*arguments: Any) -> Any:
        turns.start()  # includes compiling in the first epoch
        return choose_steps(*arguments)

    def run_epoch_in_turn(trainer: Any, epoch: int) -> Any:
        if losses:
            stop()
            turns.start()
        if parts is not None:
            parts.clear()
        logs, found = run_epoch(trainer, epoch)
        losses.append(found)
        return logs, found

    fitting.choose_steps, fitting._Trainer.run_epoch = choose_steps_in_turn, run_epoch_in_turn
    fitting.fit(
        model,
        task.data(),
        optimizer=keras.optimizers.Adam(LEARNING_RATE),
        epochs=task.epochs,
        batch_size=task.batch_size,
        seed=SEED,
        progress=False,
    )
    stop()


class _TimedLoop:
    """A training loop of a backend that times its methods."""

    def __init__(self, loop: Any, parts: defaultdict[str, float]) -> None:
        self._loop, self._parts = loop, parts

    def run(self, *arguments: Any) -> "_TimedLogs":
        with _clock(self._parts, "dispatch"):
            return _TimedLogs(self._loop.run(*arguments), self._parts)

    def load(self) -> None:
        with _clock(self._parts, "weights in and out"):
            self._loop.load()

    def sync(self) -> None:
        with _clock(self._parts, "weights in and out"):
            self._loop.sync()


class _TimedLogs:
    """Losses that are being computed; times the wait for them."""

    def __init__(self, logs: Any, parts: defaultdict[str, float]) -> None:
        self._logs, self._parts = logs, parts

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        with _clock(self._parts, "waiting for the device"):
            return np.asarray(self._logs, dtype)


@contextmanager
def _clock(parts: defaultdict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    parts[name] += time.perf_counter() - started


def run_hand_written(turns: Turns, task: Task) -> None:
    """Runs a loop of ``hand_written_<backend>.py`` or of another module for the net."""
    hand_written = importlib.import_module(f"{task.net.hand_written}_{task.backend}")
    turns.imported()
    epoch = hand_written.make_epoch(task.contestant.variant, *task.data(), task.weights(), task.batch_size)
    for order in task.orders():
        turns.start()
        losses = epoch(order)
        turns.stop(losses)


def run_model_fit(turns: Turns, task: Task) -> None:
    """Runs ``Model.fit`` of Keras: one epoch in our order for its losses, and the others with its defaults."""
    import keras

    turns.imported()
    x, y = task.data()
    order = task.orders()[0]
    model = task.net.build()
    model.compile(
        optimizer=keras.optimizers.Adam(LEARNING_RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **task.contestant.settings,
    )

    sums: dict[int, float] = {0: 0.0}  # over the losses up to a step

    class Losses(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
            if batch < STEPS_TO_COMPARE:
                sums[batch + 1] = float(logs["loss"]) * (batch + 1)  # the mean of the epoch so far

    class InTurn(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            turns.start()

        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            _wait_for_device(model)
            turns.stop()

    options = {"batch_size": task.batch_size, "verbose": 0}
    turns.start()
    model.fit(x[order], y[order], shuffle=False, callbacks=[Losses()], **options)
    steps_a_loss = min(step for step in sums if step)
    turns.stop((np.diff(list(sums.values())) / steps_a_loss).tolist(), steps_a_loss=steps_a_loss)
    model.fit(x, y, epochs=task.epochs - 1, callbacks=[InTurn()], **options)


def _wait_for_device(model: Any) -> None:
    """Waits until the last weight, and thus the last step, is computed."""
    import keras

    keras.ops.convert_to_numpy(model.trainable_variables[-1])


FIT = Contestant("fit", run_fit)
FIT_TIMED_INSIDE = Contestant("fit, timed inside", run_fit_timed_inside)


def hand_written(variant: str, *, is_extra: bool = False) -> Contestant:
    """Returns a contestant of ``hand_written_<backend>.py``."""
    name = f"hand-written, {variant}" + " (extra)" * is_extra
    return Contestant(name, run_hand_written, variant=variant, is_extra=is_extra)


def model_fit(*, losses_are_checked: bool = True, **settings: Any) -> Contestant:
    """Returns Keras' own loop, compiled with these settings."""
    name = ", ".join(f"{key}={value}" for key, value in settings.items()) or "defaults"
    return Contestant(f"Model.fit, {name}", run_model_fit, settings=settings, losses_are_checked=losses_are_checked)


CONTESTANTS = {
    "jax": [
        FIT,
        hand_written("scan"),
        hand_written("one call a step"),
        model_fit(),
        model_fit(steps_per_execution=20),  # Keras compiles with XLA by default
    ],
    "tensorflow": [
        FIT,
        hand_written("XLA step"),
        hand_written("graph step"),
        hand_written("loop in XLA", is_extra=True),
        model_fit(),
        model_fit(jit_compile=True, steps_per_execution=20),
    ],
    "torch": [
        FIT,
        hand_written("compiled"),
        hand_written("eager"),
        model_fit(),
        model_fit(jit_compile=True),  # Keras has no steps_per_execution on torch
    ],
}


# The comparison.


class DroppedOutError(Exception):
    """A contestant cannot run on this machine; the message says why."""


class Runner:
    """Controls the process of a contestant."""

    def __init__(self, task: Task) -> None:
        self._connection, inner = SPAWN.Pipe()
        self._process = SPAWN.Process(target=_run_contestant, args=(inner, task), daemon=True)
        self._process.start()
        inner.close()

    def lap(self) -> Lap:
        """Tells the contestant to train for one epoch, and returns its measurements."""
        try:
            self._connection.send("go")
            answer = self._connection.recv()
        except (EOFError, BrokenPipeError) as error:
            self._process.join()
            raise DroppedOutError(f"its process ended with exit code {self._process.exitcode}") from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def end(self) -> None:
        """Waits for the end of the process, and kills it if it does not end."""
        self._connection.close()
        self._process.join(timeout=10)
        self._process.terminate()
        self._process.join()


SPAWN = multiprocessing.get_context("spawn")


def _run_contestant(connection: Connection, task: Task) -> None:
    try:
        task.contestant.run(Turns(connection), task)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        connection.send(DroppedOutError(f"{type(error).__name__}: {reason}"))


@dataclass
class Spread:
    """A median with the lowest and the highest value."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Summarizes values."""
        return cls(median(values), min(values), max(values))

    def __format__(self, form: str) -> str:
        return f"{self.median:{form}} ({self.low:{form}} .. {self.high:{form}})"


@dataclass
class Result:
    """The results of a contestant."""

    contestant: str
    is_extra: bool
    losses_are_checked: bool
    seconds: list[float]
    steps_per_second: Spread
    speed_of_fit_to_this: Spread
    compiling_seconds: float
    imports_mib: float
    peak_mib: float
    memory_of_fit_to_this: float
    loss_difference: float


@dataclass
class Race:
    """All results for one batch size; ``expert`` is the name of the fastest hand-written loop that counts."""

    batch_size: int
    expert: str
    results: list[Result]
    dropped_out: dict[str, str]
    profile: dict[str, Spread] = field(default_factory=dict)

    def result(self, contestant: str) -> Result:
        """Returns the result of a contestant by its name."""
        return next(result for result in self.results if result.contestant == contestant)


def run_laps(tasks: Sequence[Task], rounds: int, console: Console) -> tuple[dict[str, list[Lap]], dict[str, str]]:
    """Runs the contestants in turns, and returns their laps, and the reasons of those that cannot run."""
    runners: dict[str, Runner] = {}
    laps: dict[str, list[Lap]] = {}
    dropped_out: dict[str, str] = {}
    with console.status("") as status:
        for task in tasks:
            name = task.contestant.name
            status.update(f"batches of {task.batch_size}: {name} gets ready")
            runner = Runner(task)
            try:
                laps[name] = [runner.lap() for _ in range(WARM_UP_EPOCHS)]
                runners[name] = runner
            except DroppedOutError as error:
                dropped_out[name] = str(error)
                runner.end()
        for number in range(1, rounds + 1):
            status.update(f"batches of {tasks[0].batch_size}: round {number} of {rounds}")
            for name, runner in runners.items():
                time.sleep(SETTLE_SECONDS)
                laps[name].append(runner.lap())
        for runner in runners.values():
            runner.end()
    return laps, dropped_out


def race(
    net: Net,
    contestants: Sequence[Contestant],
    backend: str,
    batch_size: int,
    *,
    rounds: int,
    data_file: Path,
    steps: int,
    profile: bool,
    console: Console,
) -> Race:
    """Runs all contestants of a backend with one batch size."""

    def task(contestant: Contestant) -> Task:
        return Task(contestant, net, backend, batch_size, WARM_UP_EPOCHS + rounds, data_file)

    laps, dropped_out = run_laps([task(contestant) for contestant in contestants], rounds, console)
    counting = [
        one.name for one in contestants if one.run is run_hand_written and not one.is_extra and one.name in laps
    ]
    if FIT.name not in laps or not counting:
        raise CourseError(f"nothing to compare: {dropped_out}; run the contestants one by one to find out why")
    results = [result_of(one, laps[one.name], laps[FIT.name], steps) for one in contestants if one.name in laps]
    expert = min(counting, key=lambda name: median(lap.seconds for lap in laps[name][WARM_UP_EPOCHS:]))
    finished = Race(batch_size, expert, results, dropped_out)
    if profile:
        timed, _ = run_laps([task(FIT_TIMED_INSIDE)], rounds, console)
        finished.profile = profile_of(timed[FIT_TIMED_INSIDE.name][WARM_UP_EPOCHS:])
    return finished


def result_of(contestant: Contestant, laps: list[Lap], laps_of_fit: list[Lap], steps: int) -> Result:
    """Compares a contestant with ``fit``, round by round."""
    seconds = [lap.seconds for lap in laps[WARM_UP_EPOCHS:]]
    seconds_of_fit = [lap.seconds for lap in laps_of_fit[WARM_UP_EPOCHS:]]
    return Result(
        contestant=contestant.name,
        is_extra=contestant.is_extra,
        losses_are_checked=contestant.losses_are_checked,
        seconds=seconds,
        steps_per_second=Spread.of([steps / one for one in seconds]),
        speed_of_fit_to_this=Spread.of([one / fit for one, fit in zip(seconds, seconds_of_fit, strict=True)]),
        compiling_seconds=max(0.0, laps[0].seconds - median(seconds)),
        imports_mib=laps[-1].imports_mib,
        peak_mib=laps[-1].peak_mib,
        memory_of_fit_to_this=laps_of_fit[-1].peak_mib / laps[-1].peak_mib,
        loss_difference=loss_difference(laps[0], laps_of_fit[0]),
    )


def loss_difference(lap: Lap, lap_of_fit: Lap) -> float:
    """Returns the largest difference of two loss curves, after averaging over the same steps."""
    losses_of_fit = np.array(lap_of_fit.losses).reshape(-1, lap.steps_a_loss).mean(axis=1)
    return float(np.abs(np.array(lap.losses) - losses_of_fit).max())


def profile_of(laps: Sequence[Lap]) -> dict[str, Spread]:
    """Returns the milliseconds of an epoch of ``fit`` by activity."""
    parts = {name: [1000 * lap.parts[name] for lap in laps] for name in laps[0].parts}
    totals = [1000 * lap.seconds for lap in laps]
    parts["bookkeeping (the rest)"] = [total - sum(rest) for total, *rest in zip(totals, *parts.values(), strict=True)]
    return {name: Spread.of(values) for name, values in (parts | {"the whole epoch": totals}).items()}


# Data and machine.


def prepare(connection: Connection, net: Net, data_file: Path, epochs: int) -> None:
    """Writes data, initial weights and the sample orders of ``fit``, and sends a description of the machine."""
    from keras_course import _backend, randomness

    x, y = net.data()
    weights = {f"weights{index}": array for index, array in enumerate(net.build().get_weights())}
    key = randomness.stream_key(SEED, "shuffle")
    orders = np.stack([randomness.permutation(key, len(x), step=epoch) for epoch in range(epochs)])
    np.savez(data_file, x=x, y=y, orders=orders, **weights)
    connection.send((len(x), _backend.device_in_use()))


def describe_machine(backend: str, device: str) -> dict[str, str]:
    """Returns a description of machine and versions."""
    packages = ("keras-course", "keras", backend, "numpy")
    return {
        "backend": backend,
        "device": device,
        "processor": f"{_processor()}, {select.processors()} cores",
        "versions": ", ".join(f"{name} {_version(name)}" for name in packages)
        + f", Python {platform.python_version()}",
        "load at the start": f"{os.getloadavg()[0]:.2f}",
    }


def _version(package: str) -> str:
    try:  # from the metadata, because this process must not import the module
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


# Output.


def show(race: Race, console: Console) -> None:
    """Prints the results as tables and a summary in one sentence."""
    table = Table(title=f"batches of {race.batch_size}", title_justify="left", box=SIMPLE)
    table.add_column("", overflow="fold")
    for heading in (
        "steps a second",
        "speed of fit\nto this",
        "compiling",
        "MiB after\nimports",
        "MiB at\nmost",
        "loss ±",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in race.results:
        table.add_row(
            result.contestant + " *" * (result.contestant == race.expert),
            f"{result.steps_per_second:,.0f}",
            f"{result.speed_of_fit_to_this:.2f}",
            f"{result.compiling_seconds:.1f} s",
            f"{result.imports_mib:,.0f}",
            f"{result.peak_mib:,.0f}",
            f"{result.loss_difference:.0e}",
        )
    console.print(table)
    for name, reason in race.dropped_out.items():
        console.print(f"{name}: left out, {reason}", markup=False, highlight=False)
    expert = race.result(race.expert)
    console.print(
        f"* counts as the hand-written loop. fit has {expert.speed_of_fit_to_this:.2f} of its speed "
        f"and {expert.memory_of_fit_to_this:.2f} of its peak memory.\n",
        highlight=False,
    )
    if race.profile:
        show_profile(race, console)


def show_profile(race: Race, console: Console) -> None:
    """Prints the profile of ``fit``."""
    table = Table(title=f"where fit spends an epoch, batches of {race.batch_size}", title_justify="left", box=SIMPLE)
    for heading in ("", "milliseconds", "share"):
        table.add_column(heading, justify="right" if heading else "left")
    total = race.profile["the whole epoch"].median
    for name, milliseconds in race.profile.items():
        table.add_row(name, f"{milliseconds:,.1f}", f"{milliseconds.median / total:.1%}")
    console.print(table, "")


def parse_arguments(description: str | None, batch_sizes: Sequence[int]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11, metavar="N", help="epochs that count (%(default)s)")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=batch_sizes, metavar="N", help="(%(default)s)")
    parser.add_argument("--backend", metavar="NAME", help=f"{', '.join(CONTESTANTS)}; else KERAS_BACKEND")
    parser.add_argument("--profile", action="store_true", help="say also where the time of fit goes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    arguments = parser.parse_args()
    check_positive(rounds=arguments.rounds, **{"batch-sizes": min(arguments.batch_sizes)})
    return arguments


def main() -> None:
    """Runs the benchmark."""
    explain_errors()
    compare(Net(), CONTESTANTS, parse_arguments(__doc__, [32, 128]))


def compare(net: Net, contestants: dict[str, list[Contestant]], arguments: argparse.Namespace) -> None:
    """Trains a net in all ways that there are on a backend, and prints the results."""
    backend = select.use(arguments.backend).backend
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
    with tempfile.TemporaryDirectory() as folder:
        data_file = Path(folder, "data.npz")
        outer, inner = SPAWN.Pipe()
        preparation = SPAWN.Process(target=prepare, args=(inner, net, data_file, WARM_UP_EPOCHS + arguments.rounds))
        preparation.start()
        inner.close()
        samples, device = outer.recv()
        preparation.join()
        machine = describe_machine(backend, device)
        for name, value in machine.items():
            console.print(f"{name}: {value}", highlight=False)
        console.print(f"each value: median (lowest .. highest) of {arguments.rounds} epochs\n", highlight=False)
        races = []
        for batch_size in arguments.batch_sizes:
            steps = -(-samples // batch_size)
            finished = race(
                net,
                contestants[backend],
                backend,
                batch_size,
                rounds=arguments.rounds,
                data_file=data_file,
                steps=steps,
                profile=arguments.profile,
                console=console,
            )
            races.append(finished)
            show(finished, console)
    if arguments.json:
        report = {"machine": machine, "races": [asdict(finished) for finished in races]}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    for result in (result for finished in races for result in finished.results):
        if result.losses_are_checked and not result.loss_difference <= LARGEST_LOSS_DIFFERENCE:
            sys.exit(
                f"error: the losses of {result.contestant} are {result.loss_difference:.1e} away from those of fit"
            )


if __name__ == "__main__":
    main()
