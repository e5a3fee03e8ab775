"""Transfer learning: a pre-trained network with a new head, for pictures or for texts."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_course.errors import CourseError, check_fractions, check_positive
from keras_course.models.heads import FEATURES, class_logits
from keras_course.randomness import Dropout, initialize


@keras.saving.register_keras_serializable(package="keras_course")
class Backbone(layers.Layer):
    """A layer that calls a model in inference mode, also while the outer model is trained.

    Keras passes ``training=True`` to every inner model, even to one that was called with ``training=False``.
    """

    def __init__(self, model: keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Returns the outputs of the model."""
        return self.model(inputs, training=False)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """Returns the shape of the feature maps."""
        return self.model.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that create the layer again."""
        return {**super().get_config(), "model": keras.saving.serialize_keras_object(self.model)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Backbone":
        """Creates the layer from its configuration."""
        return cls(**{**config, "model": keras.saving.deserialize_keras_object(config["model"])})


def transfer_classifier(
    *,
    backbone: str | keras.Model = "efficientnet_lite0",
    num_classes: int,
    pool: bool = True,
    hidden: Sequence[int] = (),
    dropout: float = 0.2,
    seed: int = 0,
    name: str = "transfer_classifier",
) -> keras.Model:
    """Builds a classifier from a pre-trained backbone, which is frozen, and a new head.

    The features are the mean of each feature map over the picture, or the whole map if positions matter. The backbone
    always runs in inference mode, also when it is fine-tuned: its batch normalization keeps the statistics of millions
    of pictures, which a few photos would only make worse, and its dropout is off.

    Args:
        backbone: The name of a pre-trained model, with the weights of ImageNet; or a model from raw pixels to feature
            maps (batch, rows, columns, channels), such as one from ``load_backbone``. It becomes part of the new model.
        num_classes: Number of classes.
        pool: Whether the features are the means of the feature maps; otherwise they are the flattened maps.
        hidden: Units of dense layers with ReLU between the features and the logits.
        dropout: Fraction of the inputs of each dense layer of the head to drop in training.
        seed: Seed of the initial weights of the head and of its dropout.
        name: Name of the model.

    Returns:
        A model from raw pixels to float32 logits (batch, num_classes). Its layers are ``backbone``, ``pool`` or
        ``flatten``, ``dropout1``, ``hidden1``, ..., ``dropout`` and ``logits``.

    Raises:
        CourseError: The backbone has no feature maps, or a number is out of range.

    Example:
        >>> from keras_course.pretrained import load_backbone
        >>> backbone = load_backbone("efficientnet_lite0", weights=None, input_shape=(32, 32, 3))
        >>> model = transfer_classifier(backbone=backbone, num_classes=2)
        >>> sum(weight.shape[0] * weight.shape[1] for weight in model.trainable_weights if len(weight.shape) == 2)
        2560

    Source: J. Yosinski and others, "How transferable are features in deep neural networks?", 2014;
    https://keras.io/guides/transfer_learning.
    """
    check_positive(num_classes=num_classes, **{f"hidden[{i}]": units for i, units in enumerate(hidden)})
    check_fractions(dropout=dropout)
    if isinstance(backbone, str):
        # imported here: a process that opens a saved model imports this file and needs no downloads
        from keras_course.pretrained.weights import load_backbone

        backbone = load_backbone(backbone)
    if len(backbone.output_shape) != 4:
        raise CourseError(
            f"backbone has the output shape {backbone.output_shape}; give one that ends with feature maps"
        )
    with keras.StatelessScope():  # the weights of the head are drawn by `initialize` only, not also by Keras
        maps = keras.Input(backbone.output_shape[1:])
        if pool:
            x = layers.GlobalAveragePooling2D(name="pool", dtype="float32")(maps)
        else:
            x = layers.Flatten(name="flatten", dtype="float32")(maps)
        for number, units in enumerate(hidden, start=1):
            if dropout:
                x = Dropout(dropout, seed=seed, name=f"dropout{number}")(x)
            x = layers.Dense(units, activation="relu", name=f"hidden{number}")(x)
        logits = class_logits(x, num_classes, dropout=dropout, seed=seed)
        head = initialize(keras.Model(maps, logits), seed=seed)
    inputs = keras.Input(backbone.input_shape[1:], name="pictures")
    x = Backbone(backbone, name="backbone")(inputs)
    for layer in head.layers[1:]:
        x = layer(x)
    model = keras.Model(inputs, x, name=name)
    freeze(model)
    return model


def backbone_of(model: keras.Model) -> keras.Model:
    """Returns the pre-trained part of a transfer classifier.

    Args:
        model: A model from ``transfer_classifier`` or ``text_classifier``, or one loaded from its file.

    Returns:
        The backbone: a model inside the model, or one that shares its layers.

    Raises:
        CourseError: The model has no backbone.

    Example:
        >>> from keras_course.models import dense_classifier
        >>> backbone_of(dense_classifier())
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: model 'dense_classifier' has no backbone; build it by transfer_classifier, ...
    """
    last = model.layers[_backbone_index(model)]
    # not `input` and `output`, which a Sequential does not have
    return last.model if isinstance(last, Backbone) else keras.Model(model.inputs[0], last.output)


def feature_extractor(model: keras.Model) -> keras.Model:
    """Returns the part of a transfer classifier that computes the features: the backbone and the pooling after it.

    Args:
        model: A model from ``transfer_classifier`` or ``text_classifier``.

    Returns:
        A model from raw pixels, or from tokens, to features (batch, features) that shares the weights.
    """
    backbone, pooling = backbone_of(model), _parts_after_backbone(model)[0]
    if pooling is None:
        return backbone
    return keras.Model(backbone.inputs[0], type(pooling).from_config(pooling.get_config())(backbone.outputs[0]))


def head_of(model: keras.Model) -> keras.Model:
    """Returns the part of a transfer classifier that computes logits from features.

    Args:
        model: A model from ``transfer_classifier`` or ``text_classifier``.

    Returns:
        A model from features (batch, features) to logits that shares the weights, so that training it trains the head.
    """
    pooling, head = _parts_after_backbone(model)
    features = x = keras.Input((pooling or model.get_layer(FEATURES)).output.shape[1:])
    for layer in head:
        x = layer(x)
    return keras.Model(features, x, name=f"{model.name}_head")


def freeze(model: keras.Model) -> None:
    """Freezes the backbone: training does not change it.

    Args:
        model: A model from ``transfer_classifier`` or ``text_classifier``.

    Raises:
        CourseError: The model has no backbone.
    """
    _set_trainable(backbone_of(model), False)


def unfreeze(model: keras.Model, *, last: int | None = None) -> int:
    """Unfreezes the backbone, or its last layers.

    Args:
        model: A model from ``transfer_classifier`` or ``text_classifier``.
        last: Number of layers with weights to unfreeze, counted from the end; the default is all.

    Returns:
        The number of trainable parameters of the backbone.

    Raises:
        CourseError: The model has no backbone, or the backbone has fewer layers.

    Example:
        >>> from keras_course.pretrained import load_backbone
        >>> backbone = load_backbone("efficientnet_lite0", weights=None, input_shape=(32, 32, 3))
        >>> unfreeze(transfer_classifier(backbone=backbone, num_classes=2), last=2)  # convolution and normalization
        412160
    """
    backbone = backbone_of(model)
    # dropout does not count: its only variable is the number of its steps
    with_weights = [layer for layer in _flat(backbone) if any("int" not in weight.dtype for weight in layer.weights)]
    if last is not None:
        check_positive(last=last)
        if last > len(with_weights):
            raise CourseError(f"last is {last}, and the backbone has {len(with_weights)} layers with weights")
    _set_trainable(backbone, True)
    for layer in with_weights[: len(with_weights) - (last or len(with_weights))]:
        layer.trainable = False
    return sum(int(keras.ops.size(weight)) for weight in backbone.trainable_weights)


def _set_trainable(backbone: keras.Model, value: bool) -> None:
    """Freezes or unfreezes all layers of a model."""
    # TensorFlow ignores a value that the model has already, although layers inside may have the other one
    backbone.trainable = not value
    backbone.trainable = value


def _backbone_index(model: keras.Model) -> int:
    """Returns the place of the last layer of the backbone."""
    found = [place for place, layer in enumerate(model.layers) if isinstance(layer, Backbone) or _ends_text(layer)]
    if len(found) != 1:
        raise CourseError(
            f"model {model.name!r} has no backbone; build it by transfer_classifier, or by text_classifier"
        )
    return found[0]


def _ends_text(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, layers.Identity) and layer.name == FEATURES


def _parts_after_backbone(model: keras.Model) -> tuple[keras.layers.Layer | None, list[keras.layers.Layer]]:
    """Returns the pooling of feature maps, which those of a text do not need, and the layers of the head."""
    place = _backbone_index(model)
    after = model.layers[place + 1 :]
    return (after[0], after[1:]) if isinstance(model.layers[place], Backbone) else (None, after)


def _flat(model: keras.Model) -> list[keras.layers.Layer]:
    found: list[keras.layers.Layer] = []
    for layer in model.layers:
        found += _flat(layer) if isinstance(layer, keras.Model) else [layer]
    return found
