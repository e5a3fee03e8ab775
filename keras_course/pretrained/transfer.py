"""A network that others have trained, with answers of one's own on top."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_course.errors import CourseError, check_fractions, check_positive
from keras_course.randomness import Dropout, initialize


@keras.saving.register_keras_serializable(package="keras_course")
class Backbone(layers.Layer):
    """A model within a model that is always in inference mode, also while the model around it is trained.

    Keras hands ``training=True`` on to every model within a model, even if that was called with ``training=False``.

    Args:
        model: The model.
        **kwargs: As for any Keras layer.
    """

    def __init__(self, model: keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Runs the model."""
        return self.model(inputs, training=False)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """Returns the shape of the feature maps."""
        return self.model.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns what is needed to make the layer again."""
        return {**super().get_config(), "model": keras.saving.serialize_keras_object(self.model)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Backbone":
        """Makes the layer again."""
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
    """Puts a new head on a pre-trained backbone, which is frozen.

    The head takes the mean of each feature map over the picture, or all of the map where places matter. The backbone is
    called in inference mode for good: its batch normalisation keeps the means and variances that it has learned from
    millions of pictures, also where its weights are trained on later, and its dropout is off. A few photos could only
    spoil the one, and would see other features with the other.

    Args:
        backbone: The name of a pre-trained model, with the weights of ImageNet; or a model from raw pixels to feature
            maps (batch, rows, columns, channels), as ``load_backbone`` gives it. It becomes part of the new model.
        num_classes: Number of classes.
        pool: Whether the features are the means of the feature maps; else they are all numbers in them.
        hidden: Units of dense layers with ReLU between the features and the logits.
        dropout: Fraction of what goes into each dense layer of the head to drop in training.
        seed: Seed of the head's initial weights and of its dropout.
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
        # not above: whoever opens a saved model needs this file, and none of what downloads
        from keras_course.pretrained.weights import load_backbone

        backbone = load_backbone(backbone)
    if len(backbone.output_shape) != 4:
        raise CourseError(f"backbone gives {backbone.output_shape}; give one that ends with feature maps")
    with keras.StatelessScope():  # the head's weights are drawn once, by `initialize`, and not by Keras before
        maps = keras.Input(backbone.output_shape[1:])
        if pool:
            x = layers.GlobalAveragePooling2D(name="pool", dtype="float32")(maps)
        else:
            x = layers.Flatten(name="flatten", dtype="float32")(maps)
        for number, units in enumerate(hidden, start=1):
            if dropout:
                x = Dropout(dropout, seed=seed, name=f"dropout{number}")(x)
            x = layers.Dense(units, activation="relu", name=f"hidden{number}")(x)
        if dropout:
            x = Dropout(dropout, seed=seed, name="dropout")(x)
        logits = layers.Dense(num_classes, dtype="float32", name="logits")(x)
        head = initialize(keras.Model(maps, logits), seed=seed)
    inputs = keras.Input(backbone.input_shape[1:], name="pictures")
    x = Backbone(backbone, name="backbone")(inputs)
    for layer in head.layers[1:]:
        x = layer(x)
    model = keras.Model(inputs, x, name=name)
    freeze(model)
    return model


def backbone_of(model: keras.Model) -> keras.Model:
    """Gives the pre-trained part of a transfer classifier.

    Args:
        model: What ``transfer_classifier`` has built, or a file of it.

    Returns:
        The backbone, a model within the model.

    Raises:
        CourseError: The model has none.

    Example:
        >>> from keras_course.models import dense_classifier
        >>> backbone_of(dense_classifier())
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: model 'dense_classifier' has no backbone; build it by transfer_classifier
    """
    return model.layers[_place_of_the_backbone(model)].model


def feature_extractor(model: keras.Model) -> keras.Model:
    """Gives the part of a transfer classifier that makes features of pictures: the backbone, and the means of its maps.

    Args:
        model: What ``transfer_classifier`` has built.

    Returns:
        A model from raw pixels to features (batch, features), which shares the weights.
    """
    backbone, (last, *_) = backbone_of(model), _after_the_backbone(model)
    # not `input` and `output`, which a Sequential has not
    return keras.Model(backbone.inputs[0], type(last).from_config(last.get_config())(backbone.outputs[0]))


def head_of(model: keras.Model) -> keras.Model:
    """Gives the part of a transfer classifier that makes logits of features.

    Args:
        model: What ``transfer_classifier`` has built.

    Returns:
        A model from features (batch, features) to logits, which shares the weights: to train it is to train the head.
    """
    last, *head = _after_the_backbone(model)
    features = x = keras.Input(last.output.shape[1:])
    for layer in head:
        x = layer(x)
    return keras.Model(features, x, name=f"{model.name}_head")


def freeze(model: keras.Model) -> None:
    """Keeps training from changing the backbone.

    Args:
        model: What ``transfer_classifier`` has built.

    Raises:
        CourseError: The model has no backbone.
    """
    backbone_of(model).trainable = False


def unfreeze(model: keras.Model, *, last: int | None = None) -> int:
    """Lets training change the backbone, or the last layers of it.

    Args:
        model: What ``transfer_classifier`` has built.
        last: How many layers with weights, counted from the end; without it, all.

    Returns:
        How many numbers of the backbone training can now change.

    Raises:
        CourseError: The model has no backbone, or not so many layers.

    Example:
        >>> from keras_course.pretrained import load_backbone
        >>> backbone = load_backbone("efficientnet_lite0", weights=None, input_shape=(32, 32, 3))
        >>> unfreeze(transfer_classifier(backbone=backbone, num_classes=2), last=2)  # a convolution, normalised
        412160
    """
    backbone = backbone_of(model)
    # not dropout, which counts its steps
    with_weights = [layer for layer in _flat(backbone) if any("int" not in weight.dtype for weight in layer.weights)]
    if last is not None:
        check_positive(last=last)
        if last > len(with_weights):
            raise CourseError(f"last is {last}, and the backbone has {len(with_weights)} layers with weights")
    backbone.trainable = True
    for layer in with_weights[: len(with_weights) - (last or len(with_weights))]:
        layer.trainable = False
    return sum(int(keras.ops.size(weight)) for weight in backbone.trainable_weights)


def _place_of_the_backbone(model: keras.Model) -> int:
    found = [place for place, layer in enumerate(model.layers) if isinstance(layer, Backbone)]
    if len(found) != 1:
        raise CourseError(f"model {model.name!r} has no backbone; build it by transfer_classifier")
    return found[0]


def _after_the_backbone(model: keras.Model) -> list[keras.layers.Layer]:
    return model.layers[_place_of_the_backbone(model) + 1 :]


def _flat(model: keras.Model) -> list[keras.layers.Layer]:
    found: list[keras.layers.Layer] = []
    for layer in model.layers:
        found += _flat(layer) if isinstance(layer, keras.Model) else [layer]
    return found
