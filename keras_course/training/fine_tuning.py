"""Transfer learning: trains a new head on features that are computed once, then fine-tunes the backbone."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_course.augmentation import Augmentation, check_augmentation
from keras_course.errors import CourseError, check_positive
from keras_course.pretrained.transfer import feature_extractor, freeze, head_of, unfreeze
from keras_course.training.features import extract_features
from keras_course.training.fit import Columns, fit
from keras_course.training.inputs import Data, check_labels
from keras_course.training.run_directory import RunDirectory


@keras.saving.register_keras_serializable(package="keras_course")
class WeightedCrossEntropy(keras.Loss):
    """Cross entropy in which each sample has the weight of its class.

    Args:
        class_weights: A weight for each class; 1 changes nothing.
        label_smoothing: Fraction of each label that is spread over all classes.
        **kwargs: See ``keras.Loss``.

    Example:
        >>> loss = WeightedCrossEntropy([1.0, 3.0])
        >>> logits = np.zeros((2, 2), "float32")  # the logarithm of 2 each, once and three times, divided by two
        >>> round(float(loss(np.array([0, 1]), logits)), 3)
        1.386
    """

    def __init__(self, class_weights: Sequence[float], *, label_smoothing: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.class_weights = [float(weight) for weight in class_weights]
        self.label_smoothing = label_smoothing

    def call(self, labels: Any, logits: Any) -> Any:
        """Returns the weighted loss of each sample; labels are class numbers, or probabilities (batch, classes)."""
        ops = keras.ops
        classes = len(self.class_weights)
        if len(labels.shape) < len(logits.shape):
            # not ops.one_hot, which reads the largest label; a compiled step cannot
            labels = ops.equal(ops.expand_dims(ops.cast(labels, "int32"), -1), ops.arange(classes, dtype="int32"))
        labels = ops.cast(labels, "float32")
        weights = ops.sum(labels * ops.convert_to_tensor(np.asarray(self.class_weights, "float32")), axis=-1)
        spread = labels * (1 - self.label_smoothing) + self.label_smoothing / classes
        return -weights * ops.sum(spread * ops.log_softmax(logits), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that create the loss again."""
        own = {"class_weights": self.class_weights, "label_smoothing": self.label_smoothing}
        return {**super().get_config(), **own}


def train_head(
    model: keras.Model,
    train: Data,
    valid: Data | None = None,
    *,
    epochs: int = 20,
    batch_size: int = 64,
    learning_rate: float = 0.003,
    weight_decay: float = 0.01,
    label_smoothing: float = 0.0,
    class_weights: npt.ArrayLike | None = None,
    augmentation: Augmentation | None = None,
    views: int = 1,
    seed: int = 0,
    cache: str | Path | None = None,
    run: RunDirectory | None = None,
    progress: bool = True,
    on_features: Callable[[int], None] | None = None,
) -> Columns:
    """Trains the head of a transfer classifier on the features of its frozen backbone.

    The backbone processes each photo once. The features are kept in the cache, so that a second training takes a
    second. The learning rate decays along half a cosine.

    Args:
        model: A model from ``transfer_classifier`` or ``text_classifier``. Its backbone is frozen.
        train: Training photos uint8 (n, height, width, 3), or tokens of texts int32 (n, tokens), and labels (n,).
        valid: Validation photos or tokens and labels, on which the model is evaluated after each epoch.
        epochs: Number of epochs.
        batch_size: Photos in a batch.
        learning_rate: The initial learning rate.
        weight_decay: Fraction of each weight that a step subtracts, times the learning rate.
        label_smoothing: Fraction of each label that is spread over all classes.
        class_weights: A weight (classes,) for the photos of each class; the default is 1 for all.
        augmentation: Random transforms of the photos in all views but the first.
        views: Number of views of each photo: the first is the photo itself, the others are augmented.
        seed: Seed of the order of the photos.
        cache: The cache folder; the default is ``KERAS_COURSE_CACHE`` or the cache folder of the user.
        run: Where to write the history and checkpoints; see ``fit``.
        progress: Whether to show a progress bar and print a line for each epoch.
        on_features: Called with the number of photos whose features have just been computed.

    Returns:
        The columns of ``fit``.

    Raises:
        CourseError: See ``fit``; or the model has no backbone, or there are several views and no augmentation.
    """
    check_positive(views=views, epochs=epochs, batch_size=batch_size)
    check_augmentation(augmentation, mixing=False)
    if views > 1 and augmentation is None:
        raise CourseError(f"views is {views}, and there is no augmentation; give one, or views=1")
    check_labels(train[0], train[1], "train")
    freeze(model)
    extractor = feature_extractor(model)

    def features_of(pictures: np.ndarray, **how: Any) -> np.ndarray:
        return extract_features(extractor, pictures, cache=cache, progress=on_features, **how)

    features = features_of(train[0])
    if views > 1:
        augmented = features_of(train[0], augmentation=augmentation, views=views - 1)
        features = np.concatenate([features, augmented])
    labels = np.tile(train[1], views)
    return fit(
        head_of(model),
        (features, labels),
        None if valid is None else (features_of(valid[0]), valid[1]),
        optimizer=_optimizer(learning_rate, weight_decay, epochs * -(-len(labels) // batch_size)),
        loss=_loss(model, class_weights, label_smoothing),
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        run=run,
        progress=progress,
    )


def fine_tune(
    model: keras.Model,
    train: Data,
    valid: Data | None = None,
    *,
    last: int | None = None,
    epochs: int = 5,
    batch_size: int = 16,
    learning_rate: float = 0.0001,
    weight_decay: float = 0.01,
    label_smoothing: float = 0.0,
    class_weights: npt.ArrayLike | None = None,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    run: RunDirectory | None = None,
    log_steps: bool = False,
    progress: bool = True,
) -> Columns:
    """Fine-tunes the backbone of a transfer classifier, or its last layers, together with the head.

    Train the head first: the gradients of a random head would destroy what the backbone has learned. The learning rate
    has a short linear warm-up and then decays along half a cosine.

    Args:
        model: A model from ``transfer_classifier`` or ``text_classifier``.
        train: Training photos uint8 (n, height, width, 3), or tokens of texts int32 (n, tokens), and labels (n,).
        valid: Validation photos or tokens and labels, on which the model is evaluated after each epoch.
        last: Number of layers of the backbone to train, counted from the end; the default is all.
        epochs: Number of epochs.
        batch_size: Photos in a batch.
        learning_rate: The largest learning rate, about ten times smaller than that of the head.
        weight_decay: Fraction of each weight that a step subtracts, times the learning rate.
        label_smoothing: Fraction of each label that is spread over all classes.
        class_weights: A weight (classes,) for the photos of each class; the default is 1 for all.
        augmentation: Random transforms of the photos of each batch.
        seed: Seed of the order of the photos.
        run: Where to write the history and checkpoints; see ``fit``.
        log_steps: Whether to write the loss of each batch; see ``fit``.
        progress: Whether to show a progress bar and print a line for each epoch.

    Returns:
        The columns of ``fit``.

    Raises:
        CourseError: See ``fit``; or the model has no backbone, or the backbone has fewer layers than ``last``.
    """
    check_positive(epochs=epochs, batch_size=batch_size)
    check_augmentation(augmentation)
    check_labels(train[0], train[1], "train")
    unfreeze(model, last=last)
    return fit(
        model,
        train,
        valid,
        optimizer=_optimizer(learning_rate, weight_decay, epochs * -(-len(train[0]) // batch_size), warm_up=0.1),
        loss=_loss(model, class_weights, label_smoothing),
        epochs=epochs,
        batch_size=batch_size,
        augmentation=augmentation,
        seed=seed,
        run=run,
        log_steps=log_steps,
        progress=progress,
    )


def _optimizer(learning_rate: float, weight_decay: float, steps: int, *, warm_up: float = 0.0) -> keras.Optimizer:
    if not learning_rate > 0:
        raise CourseError(f"learning_rate is {learning_rate}; give a number above 0")
    decay = keras.optimizers.schedules.CosineDecay
    schedule = decay(learning_rate, steps)
    if rising := int(steps * warm_up):
        schedule = decay(0.0, steps - rising, warmup_target=learning_rate, warmup_steps=rising)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _loss(model: keras.Model, class_weights: npt.ArrayLike | None, label_smoothing: float) -> keras.Loss | str:
    classes = model.output_shape[-1]
    if class_weights is None:
        if not label_smoothing:
            return "sparse_categorical_crossentropy"
        class_weights = np.ones(classes)
    weights = np.asarray(class_weights, "float64")
    if weights.shape != (classes,) or not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise CourseError(f"class_weights is {class_weights}; give a weight from 0 up for each of {classes} classes")
    return WeightedCrossEntropy(weights.tolist(), label_smoothing=label_smoothing)
