"""Calls Keras callbacks in the way of ``Model.fit``."""

from collections.abc import Sequence
from typing import Any, Final, Self

import keras

from keras_course._backend import keras_private
from keras_course._backend.known_code import comes_from
from keras_course.errors import CourseError

_OF_TRAINING_BATCHES: Final = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
_OF_TEST_BATCHES: Final = ("on_test_batch_begin", "on_test_batch_end")


class Callbacks:
    """A list of Keras callbacks, and the context of the training of a compiled model that they watch."""

    def __init__(self, callbacks: Any, model: keras.Model, epochs: int, steps: int | None) -> None:
        given = [callbacks] if isinstance(callbacks, keras.callbacks.Callback) else list(callbacks or ())
        for callback in given:
            if not isinstance(callback, keras.callbacks.Callback):
                raise CourseError(f"callbacks has a {type(callback).__name__}; give instances of Keras callbacks")
        self.watches_batches = _overrides(given, _OF_TRAINING_BATCHES)
        self.watches_test_batches = _overrides(given, _OF_TEST_BATCHES)
        self._model, self._recorder = model, _Recorder()
        self.list = keras.callbacks.CallbackList(
            [*given, self._recorder], model=model, epochs=epochs, steps=steps, verbose=0
        )

    def __enter__(self) -> Self:
        self._model.stop_training = False
        keras_private.reset_initial_epoch(self._model)
        self.list.on_train_begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.list.on_train_end(self._recorder.logs)

    @property
    def first_epoch(self) -> int:
        """The epoch from which a callback has restored the model; 0 if none did."""
        return keras_private.initial_epoch(self._model)

    def end_epoch(self, epoch: int, logs: dict[str, float]) -> dict[str, Any]:
        """Returns the logs of an epoch with the entries that callbacks have added."""
        self.list.on_epoch_end(epoch, logs)
        found = self._recorder.logs  # sorted by Keras
        return {name: found[name] for name in (*logs, *(name for name in found if name not in logs)) if name in found}

    def on_test_batch(self, batch: int, logs: dict[str, float] | None) -> None:
        """Reports a validation batch: before it with None, after it with its logs."""
        if logs is None:
            self.list.on_test_batch_begin(batch)
        else:
            self.list.on_test_batch_end(batch, logs)


class _Recorder(keras.callbacks.Callback):
    """Keeps the logs of the last epoch with the changes of the other callbacks."""

    def __init__(self) -> None:
        super().__init__()
        self.logs: dict[str, Any] = {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.logs = dict(logs or {})


def _overrides(callbacks: Sequence[Any], names: Sequence[str]) -> bool:
    """Returns whether a callback overrides one of the methods, in its class or on the instance."""

    def is_own(callback: Any, name: str) -> bool:
        if name in vars(callback):
            return True
        if comes_from(type(callback), "keras") and getattr(callback, "save_freq", None) == "epoch":
            return False  # then its methods for batches do nothing
        return getattr(type(callback), name) is not getattr(keras.callbacks.Callback, name)

    return any(is_own(callback, name) for callback in callbacks for name in names)
