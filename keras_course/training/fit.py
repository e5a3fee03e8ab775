"""Training a model on labelled data: the same batches, the same curve, on every backend."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, Self

import keras
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from keras_course import _backend
from keras_course.augmentation import Augmentation
from keras_course.errors import CourseError, DivergenceError, check_positive
from keras_course.training.inputs import Batches, Data, check_data, check_pictures, check_samples, on_logits
from keras_course.training.run_directory import Checkpoint, Columns, RunDirectory

Metric = Callable[[Any, Any], Any]
Forward = Callable[[np.ndarray], np.ndarray]

_SAMPLES_TOGETHER: Final = 256
_NUMBERS_TOGETHER: Final = 2**23
"""What runs together in inference mode: so many samples, or fewer with so many numbers."""


def accuracy(labels: Any, logits: Any) -> Any:
    """Says for each sample whether the largest logit is that of its label.

    Args:
        labels: Class numbers, a tensor (batch,), or probabilities (batch, classes).
        logits: A tensor (batch, classes).

    Returns:
        A float32 tensor (batch,) of 0 and 1.

    Example:
        >>> keras.ops.convert_to_numpy(accuracy(np.array([1, 0]), np.array([[0.0, 2.0], [0.0, 2.0]]))).tolist()
        [1.0, 0.0]
    """
    predictions = keras.ops.cast(keras.ops.argmax(logits, axis=-1), "int32")
    if len(labels.shape) == len(logits.shape):
        labels = keras.ops.argmax(labels, axis=-1)
    return keras.ops.cast(keras.ops.equal(predictions, keras.ops.cast(labels, "int32")), "float32")


def fit(
    model: keras.Model,
    train: Data,
    valid: Data | None = None,
    *,
    optimizer: keras.Optimizer | str = "adam",
    loss: keras.Loss | str = "sparse_categorical_crossentropy",
    metrics: Mapping[str, Metric] | None = None,
    epochs: int = 5,
    batch_size: int = 32,
    seed: int = 0,
    augmentation: Augmentation | None = None,
    early_stopping: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    run: RunDirectory | None = None,
    log_steps: bool = False,
    progress: bool = True,
) -> Columns:
    """Trains a model, several compiled steps in one call, and goes on where a killed run stopped.

    The order of the samples is drawn from the seed and the epoch; so is whatever the model draws from
    ``keras_course.randomness``. The model is not compiled and need not be.

    Args:
        model: A built model that returns logits.
        train: Samples (n, ...) and labels (n, ...) to train on.
        valid: Samples and labels on which each epoch is measured.
        optimizer: A Keras optimizer, or the name of one with its default settings.
        loss: A Keras loss on logits, or the name of one, which is then told that it gets logits.
        metrics: Functions from (labels, logits) to one number a sample, by name; ``accuracy`` when left out.
        epochs: How often to go through the samples, counted from the start of the run, also after a resume.
        batch_size: Samples a step. The last batch of an epoch is smaller where they do not divide.
        seed: Seed of the order.
        augmentation: What to do to the pictures of each training batch, and to its labels, inside the compiled step.
            Where it mixes labels, they become probabilities, and a sparse cross entropy takes them as such.
        early_stopping: Epochs without a lower validation loss after which to stop and go back to the best; None to go
            on.
        callbacks: Keras callbacks. Those for batches are called after each group of steps that ran in one call.
        run: Where to write ``history.csv`` and a checkpoint each epoch; with ``run.resume`` the run there goes on.
        log_steps: Whether to write the loss of each batch alone to ``steps.csv`` in ``run``.
        progress: Whether to show a progress bar and a line an epoch.

    Returns:
        The columns epoch, loss, the metrics, val_loss, val_ and each metric, seconds; a row an epoch. ``loss`` and the
        metrics are means over the epoch while the model was being trained.

    Raises:
        CourseError: Data and model do not fit, a sample is not finite, a number is out of range, or the checkpoint is
            of another run.
        DivergenceError: The loss is no longer a number; ``found`` holds the columns of the epochs before.

    Example:
        >>> from keras_course.models import dense_classifier
        >>> x, y = np.zeros((8, 2, 2, 1), "uint8"), np.zeros(8, "int32")
        >>> history = fit(dense_classifier(input_shape=(2, 2, 1), hidden=()), (x, y), epochs=2, progress=False)
        >>> history["epoch"], history["accuracy"][-1]
        ([1, 2], 1.0)
    """
    check_positive(epochs=epochs, batch_size=batch_size)
    if early_stopping is not None:
        check_positive(early_stopping=early_stopping)
        if valid is None:
            raise CourseError("early_stopping needs validation data; give valid or leave early_stopping out")
    loss = on_logits(loss)
    check_data(model, train, loss, "train")
    if augmentation is not None:
        check_pictures(train[0], "train")
    if valid is not None:
        check_data(model, valid, loss, "valid")
    optimizer = keras.optimizers.get(optimizer)
    optimizer.build(model.trainable_variables)
    metrics = {"accuracy": accuracy} if metrics is None else metrics
    settings = _settings(model, train, valid, optimizer, loss, metrics, batch_size, seed, augmentation)

    columns = ["loss", *metrics]
    val_columns = [f"val_{name}" for name in columns if valid is not None]
    history: Columns = {name: [] for name in ["epoch", *columns, *val_columns, "seconds"]}
    best: list[np.ndarray] = []
    if run is not None and run.resume and (checkpoint := run.load_checkpoint()) is not None:
        _restore(checkpoint, settings, model, optimizer)
        history, best = checkpoint.history, checkpoint.best
        run.write_history(history)  # a run killed between the two files has a newer checkpoint

    change = None if augmentation is None else partial(_augment, augmentation)
    loop = _backend.training_loop(model, optimizer, partial(_loss_on_any_labels, loss), metrics, change)
    forward = _backend.forward(model)
    batches = Batches(*train, batch_size=batch_size, seed=seed)
    if run is not None and log_steps:
        run.start_steps(len(history["epoch"]) * batches.steps)
    display = _Display(epochs, batches.steps, shown=progress)
    with _Callbacks(callbacks, model, optimizer, epochs, batches.steps) as keras_callbacks:
        for epoch in range(len(history["epoch"]), epochs):
            if model.stop_training or _patience_is_over(history, early_stopping):
                break
            started = time.perf_counter()
            keras_callbacks.list.on_epoch_begin(epoch)
            totals = _Totals(columns, batches.sizes)

            def after_group(rows: np.ndarray, totals: _Totals = totals) -> None:
                display.advance(len(rows), totals.means())
                if keras_callbacks.any:
                    loop.sync()
                    first = len(totals.losses) - len(rows)
                    keras_callbacks.after_batches(first, rows, columns, batches.sizes[first:])
                    loop.load()

            with display.epoch(epoch):
                _train_epoch(loop, batches, epoch, history, totals, after_group, ahead=not keras_callbacks.any)
            logs = totals.means()
            if valid is not None:
                logs |= {f"val_{name}": value for name, value in _measure(forward, valid, loss, metrics).items()}
            if not np.isfinite(logs.get("val_loss", 0.0)) or not _is_finite(model):
                raise _diverged(epoch, (epoch + 1) * batches.steps, history, what="state after")
            row = {"epoch": epoch + 1, **logs, "seconds": round(time.perf_counter() - started, 3)}
            for name, value in row.items():
                history[name].append(value)
            if early_stopping is not None and int(np.argmin(history["val_loss"])) == epoch:
                best = model.get_weights()
            display.report(row)
            keras_callbacks.list.on_epoch_end(epoch, logs)
            if run is not None:  # after the callbacks, which may have changed the learning rate
                if log_steps:
                    run.append_steps(epoch * batches.steps + 1, totals.losses)
                run.save_checkpoint(Checkpoint(settings, history, *_state(model, optimizer), best))
    if best:
        model.set_weights(best)
    return history


def evaluate(
    model: keras.Model,
    data: Data,
    *,
    loss: keras.Loss | str = "sparse_categorical_crossentropy",
    metrics: Mapping[str, Metric] | None = None,
) -> dict[str, float]:
    """Measures a model on labelled data.

    Args:
        model: A built model that returns logits.
        data: Samples (n, ...) and labels (n, ...).
        loss: A Keras loss on logits, or the name of one.
        metrics: Functions from (labels, logits) to one number a sample, by name; ``accuracy`` when left out.

    Returns:
        The loss and the mean of each metric.

    Example:
        >>> from keras_course.models import dense_classifier
        >>> model = dense_classifier(input_shape=(2, 2, 1), hidden=(), num_classes=2)
        >>> black = np.zeros((4, 2, 2, 1), "uint8")  # all logits are 0, so the loss is the logarithm of 2
        >>> {name: round(value, 3) for name, value in evaluate(model, (black, np.zeros(4, "int32"))).items()}
        {'loss': 0.693, 'accuracy': 1.0}
    """
    loss = on_logits(loss)
    check_data(model, data, loss, "data")
    return _measure(_backend.forward(model), data, loss, {"accuracy": accuracy} if metrics is None else metrics)


def predict_logits(
    model: keras.Model,
    x: np.ndarray,
    *,
    batch_size: int | None = None,
    augmentation: Augmentation | None = None,
    variants: int = 16,
) -> np.ndarray:
    """Runs a model over samples in inference mode.

    Args:
        model: A built model.
        x: Samples (n, ...).
        batch_size: Samples that run together; without it up to 256, and fewer large ones, such as 32 photos of 224 by
            224 pixels.
        augmentation: With it the model does not see the pictures themselves, but several variants of each, changed as
            in training; what it says of them is averaged. A net that has learned from changed pictures is usually
            right a little more often that way. The variants of a picture depend on its row, and not on
            ``batch_size``.
        variants: How many; the time that it takes is as many times as long.

    Returns:
        The model's outputs, float32 (n, ...); with an augmentation their means.

    Raises:
        CourseError: The samples do not fit the model, are no pictures where they are to be changed, or the
            augmentation mixes pictures with each other.

    Example:
        >>> from keras_course.augmentation import Augmentation, Rotation
        >>> from keras_course.models import dense_classifier
        >>> black = np.zeros((3, 28, 28, 1), "uint8")
        >>> predict_logits(dense_classifier(), black).shape
        (3, 10)
        >>> predict_logits(dense_classifier(), black, augmentation=Augmentation([Rotation(20)]), variants=4).shape
        (3, 10)

    Source: A. Krizhevsky, I. Sutskever and G. Hinton, "ImageNet classification with deep convolutional neural
    networks", 2012, which averages over ten crops.
    """
    check_positive(batch_size=1 if batch_size is None else batch_size, variants=variants)
    check_samples(model, x, "x")
    forward = _backend.forward(model)
    if augmentation is None:
        return _predict(forward, x, batch_size)
    check_pictures(x, "x")
    shown = (augmentation.apply(x, step=step, library=np) for step in range(variants))
    return np.mean([_predict(forward, pictures, batch_size) for pictures in shown], axis=0)


def _measure(forward: Forward, data: Data, loss: keras.Loss, metrics: Mapping[str, Metric]) -> dict[str, float]:
    x, labels = data
    logits = _predict(forward, x)
    measured = {"loss": float(keras.ops.convert_to_numpy(loss(labels, logits)))}
    for name, metric in metrics.items():
        measured[name] = float(keras.ops.convert_to_numpy(metric(labels, logits)).mean(dtype="float64"))
    return measured


def _predict(forward: Forward, x: np.ndarray, batch_size: int | None = None) -> np.ndarray:
    if batch_size is None:
        # a net makes many times as many numbers of a photo as it has: 256 of them filled 20 GiB
        fitting = max(1, _NUMBERS_TOGETHER // math.prod(x.shape[1:]))
        batch_size = min(_SAMPLES_TOGETHER, 1 << (fitting.bit_length() - 1))
    outputs = []
    for start in range(0, len(x), batch_size):
        batch = x[start : start + batch_size]
        # one shape, one compilation: the last batch is filled up with copies, whose outputs are dropped
        filled = np.resize(batch, (min(batch_size, len(x)), *batch.shape[1:]))
        outputs.append(forward(filled)[: len(batch)])
    return np.concatenate(outputs)


class _Totals:
    """Sums over the batches of an epoch so far."""

    def __init__(self, columns: list[str], sizes: np.ndarray) -> None:
        self._columns, self._sizes = columns, sizes
        self._sums = np.zeros(len(columns))
        self.losses: list[float] = []

    def add(self, logs: np.ndarray) -> None:
        """Adds rows of a batch's mean loss and of its sums of each metric."""
        done = len(self.losses)
        sums = logs.copy()
        sums[:, 0] *= self._sizes[done : done + len(logs)]
        # cumsum adds one row after the other, so that no bit depends on which rows came together
        self._sums = np.vstack([self._sums, sums]).cumsum(axis=0)[-1]
        self.losses += logs[:, 0].tolist()

    def means(self) -> dict[str, float]:
        """Means a sample, by column."""
        samples = self._sizes[: len(self.losses)].sum()
        return dict(zip(self._columns, (self._sums / samples).tolist(), strict=True))


def _train_epoch(
    loop: Any,
    batches: Batches,
    epoch: int,
    history: Columns,
    totals: _Totals,
    after_group: Callable[[np.ndarray], None],
    *,
    ahead: bool,
) -> None:
    """Runs one epoch; ``ahead`` lets a group of steps start before the losses of the one before have been looked at."""
    waiting: list[tuple[Any, int]] = []
    started = time.perf_counter()

    def steps_a_second() -> float:
        return max(1, len(totals.losses)) / (time.perf_counter() - started)

    def collect(logs: Any, count: int) -> None:
        rows = np.asarray(logs)[:count].astype("float64")
        totals.add(rows)
        if not np.isfinite(rows[:, 0]).all():
            first = int(np.argmin(np.isfinite(totals.losses))) + 1
            raise _diverged(epoch, epoch * batches.steps + first, history, what="loss of")
        after_group(rows)

    loop.load()
    try:
        for x, y, count in batches.groups(epoch, steps_a_second):
            waiting.append((loop.run(x, y, count), count))
            while len(waiting) > ahead:
                collect(*waiting.pop(0))
        for group in waiting:
            collect(*group)
    finally:
        loop.sync()


def _augment(augmentation: Augmentation, x: Any, y: Any, step: Any) -> tuple[Any, Any]:
    step = keras.ops.cast(step, "int32")
    return augmentation.apply(x, y, step=step, first_row=_backend.replica() * keras.ops.shape(x)[0])


def _loss_on_any_labels(loss: keras.Loss, labels: Any, logits: Any) -> Any:
    """Takes labels that an augmentation has turned into probabilities, too."""
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy) and len(labels.shape) == len(logits.shape):
        return keras.losses.CategoricalCrossentropy(from_logits=loss.get_config()["from_logits"])(labels, logits)
    return loss(labels, logits)


def _is_finite(model: keras.Model) -> bool:
    return all(np.isfinite(weight).all() for weight in model.get_weights())


def _diverged(epoch: int, step: int, history: Columns, *, what: str) -> DivergenceError:
    return DivergenceError(
        f"the {what} step {step} (epoch {epoch + 1}) is not a finite number any more: training diverged; "
        "choose a smaller learning_rate",
        found=history,
    )


class _Callbacks:
    """Keras callbacks, called as ``Model.fit`` calls them, but for groups of batches."""

    def __init__(
        self, callbacks: Sequence[Any], model: keras.Model, optimizer: keras.Optimizer, epochs: int, steps: int
    ) -> None:
        self.any = bool(callbacks)
        self._model = model
        self._optimizer = optimizer
        self.list = keras.callbacks.CallbackList(
            list(callbacks), add_history=False, add_progbar=False, model=model, epochs=epochs, steps=steps, verbose=0
        )

    def __enter__(self) -> Self:
        self._model.stop_training = False
        self._before = getattr(self._model, "optimizer", None)
        self._model.optimizer = self._optimizer  # where LearningRateScheduler and its like look for it
        self.list.on_train_begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.list.on_train_end()
        self._model.optimizer = self._before  # else a saved model would carry it, and open only where its class exists

    def after_batches(self, first: int, rows: np.ndarray, columns: list[str], sizes: np.ndarray) -> None:
        """Reports batches that have just run together."""
        for index, row in enumerate(rows):
            logs = dict(zip(columns, [row[0], *(row[1:] / sizes[index])], strict=True))
            self.list.on_train_batch_begin(first + index)
            self.list.on_train_batch_end(first + index, logs)


class _Display:
    """A progress bar for the epoch under way, and a line for each one that is over."""

    def __init__(self, epochs: int, steps: int, *, shown: bool) -> None:
        self._epochs, self._steps, self._shown = epochs, steps, shown
        self._console = Console()
        self._bar: Progress | None = None

    @contextmanager
    def epoch(self, number: int) -> Iterator[None]:
        """Shows the bar while an epoch runs."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"))
        texts = (TextColumn("{task.fields[numbers]}"), TimeRemainingColumn())
        hidden = not (self._shown and self._console.is_terminal)
        bar = Progress(*columns, *texts, console=self._console, transient=True, disable=hidden)
        with bar:
            bar.add_task(f"epoch {number + 1}/{self._epochs}", total=self._steps, numbers="")
            self._bar = bar
            yield

    def advance(self, count: int, numbers: Mapping[str, float]) -> None:
        """Moves the bar."""
        if self._bar is not None and not self._bar.disable:
            self._bar.update(self._bar.task_ids[0], advance=count, numbers=_sentence(numbers))

    def report(self, row: Mapping[str, float]) -> None:
        """Prints the numbers of an epoch."""
        if self._shown:
            numbers = {name: value for name, value in row.items() if name not in ("epoch", "seconds")}
            head = f"epoch {row['epoch']:>{len(str(self._epochs))}}/{self._epochs}"
            text = f"{head}  {_sentence(numbers)}  {row['seconds']:.1f} s"
            self._console.print(text, highlight=False, soft_wrap=True)


def _sentence(numbers: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in numbers.items())


def _patience_is_over(history: Columns, patience: int | None) -> bool:
    losses = history.get("val_loss")
    return bool(patience and losses and len(losses) - 1 - int(np.argmin(losses)) >= patience)


def _settings(
    model: keras.Model,
    train: Data,
    valid: Data | None,
    optimizer: keras.Optimizer,
    loss: keras.Loss,
    metrics: Mapping[str, Metric],
    batch_size: int,
    seed: int,
    augmentation: Augmentation | None,
) -> dict[str, Any]:
    """What has to be the same for a run to go on as if it had never stopped; names that Keras counts up have not."""
    config = optimizer.get_config()
    return {
        "seed": int(seed),
        "batch_size": int(batch_size),
        "data": _fingerprint(train),
        "validation data": _fingerprint(valid),
        "model": f"{model.count_params()} parameters",
        "precision": model.dtype_policy.name,
        "optimizer": type(optimizer).__name__,
        **{f"optimizer's {name}": _as_json(value) for name, value in config.items() if name != "name"},
        "loss": type(loss).__name__,
        "metrics": list(metrics),
        "augmentation": None if augmentation is None else _as_json(augmentation.get_config()),
    }


def _as_json(value: Any) -> Any:
    """The value as it comes back from a checkpoint."""
    return json.loads(json.dumps(value, default=str))


def _fingerprint(data: Data | None) -> str | None:
    if data is None:
        return None
    digest = hashlib.blake2b(digest_size=8)
    for array in data:
        digest.update(np.ascontiguousarray(array).data)
    return f"{len(data[0])} samples, {digest.hexdigest()}"


def _state(model: keras.Model, optimizer: keras.Optimizer) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return model.get_weights(), [keras.ops.convert_to_numpy(variable) for variable in optimizer.variables]


def _restore(checkpoint: Checkpoint, settings: dict[str, Any], model: keras.Model, optimizer: keras.Optimizer) -> None:
    """Puts the state after an epoch back, whichever backend it was saved on."""
    for name, value in settings.items():
        if checkpoint.settings.get(name) != value:
            raise CourseError(
                f"the run to resume has {name} {checkpoint.settings.get(name)!r}, this one {value!r}; "
                "give the same, or start a new run in another --output"
            )
    for variables, values in ((model.weights, checkpoint.model), (optimizer.variables, checkpoint.optimizer)):
        if [tuple(variable.shape) for variable in variables] != [value.shape for value in values]:
            raise CourseError("the run to resume has weights of other shapes; start a new run in another --output")
    model.set_weights(checkpoint.model)
    for variable, value in zip(optimizer.variables, checkpoint.optimizer, strict=True):
        variable.assign(value)
