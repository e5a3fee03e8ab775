"""What ``test_as_keras.py`` trains: one row for each layer, loss, optimizer, metric and callback that Keras has.

The name of a row is that of the class, and, if there are several rows, of the setting. If a class cannot be trained on
each backend, or by ``fit`` at all, its row says why.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, losses, metrics, ops, optimizers


@dataclass(frozen=True)
class Row:
    """One way to use one class."""

    make: Callable[..., Any]
    only: str = ""  # the only backend that has it
    needs: str = ""  # a package that must be installed

    def runs(self) -> bool:
        """Returns whether this backend can train it."""
        installed = not self.needs or _is_installed(self.needs)
        return installed and self.only in ("", keras.backend.backend())


def _is_installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


# --- Layers ----------------------------------------------------------------------------------------------------

SHAPES = {
    "vector": (6,),
    "features": (6,),
    "sequence": (5, 4),
    "picture": (6, 6, 3),
    "pixels": (6, 6, 3),
    "volume": (4, 4, 4, 2),
    "tokens": (5,),
}
"""The shape of a sample of each kind; ``features`` and ``pixels`` are for preprocessing without a gradient."""

WITH_GRADIENT = ("vector", "sequence", "picture", "volume")
TOKENS = 7


def samples(kind: str, count: int, seed: int = 0) -> np.ndarray:
    """Draws samples of a kind: (count, *shape)."""
    draw = np.random.default_rng(seed)
    if kind == "tokens":
        return draw.integers(0, TOKENS, (count, *SHAPES[kind]), dtype="int32")
    if kind == "pixels":
        return draw.uniform(0.05, 0.95, (count, *SHAPES[kind])).astype("float32")
    return draw.normal(size=(count, *SHAPES[kind])).astype("float32")


@keras.saving.register_keras_serializable("as_keras")
class Scale(layers.Layer):
    """A user-defined layer."""

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, inputs: Any) -> Any:
        return inputs * self.scale


@keras.saving.register_keras_serializable("as_keras")
class Twice(layers.Wrapper):
    """A user-defined wrapper."""

    def call(self, inputs: Any) -> Any:
        return self.layer(inputs) + self.layer(inputs * 0.5)


def _linear_in_jax(params: Any, inputs: Any) -> Any:
    return inputs @ params["kernel"]


def _flax_layer(x: Any) -> Any:
    import flax.linen

    return layers.FlaxLayer(flax.linen.Dense(3))(x)


def _torch_module(x: Any) -> Any:
    import torch

    torch.manual_seed(0)
    return layers.TorchModuleWrapper(torch.nn.Linear(6, 3), output_shape=(None, 3))(x)


def _pair(x: Any) -> list[Any]:
    return [x, layers.Dense(x.shape[-1], activation="tanh")(x)]


def _as_frames(x: Any) -> Any:
    return layers.Reshape((2, 2, *x.shape[2:]))(x)


LAYERS: dict[str, dict[str, Callable[..., Any] | Row]] = {
    "vector": {
        "Activation": lambda x: layers.Activation("gelu")(x),
        "ActivityRegularization": lambda x: layers.ActivityRegularization(l1=0.01, l2=0.1)(x),
        "Add": lambda x: layers.Add()(_pair(x)),
        "Average": lambda x: layers.Average()(_pair(x)),
        "BatchNormalization": lambda x: layers.BatchNormalization(momentum=0.8)(x),
        "Concatenate": lambda x: layers.Concatenate()(_pair(x)),
        "Dense": lambda x: layers.Dense(3, activation="tanh")(x),
        "Dense regularized": lambda x: layers.Dense(3, kernel_regularizer="l2", activity_regularizer="l1")(x),
        "Dense constrained": lambda x: layers.Dense(3, kernel_constraint=keras.constraints.MaxNorm(0.5, axis=0))(x),
        "Dense lora": lambda x: layers.Dense(3, lora_rank=2)(x),
        "Dot": lambda x: layers.Dot(axes=1)(_pair(x)),
        "ELU": lambda x: layers.ELU()(x),
        "EinsumDense": lambda x: layers.EinsumDense("bi,io->bo", output_shape=3, bias_axes="o")(x),
        "Flatten": lambda x: layers.Flatten()(x),
        "FlaxLayer": Row(_flax_layer, only="jax", needs="tensorflow"),  # Keras 3.15 imports it there, too
        "GroupNormalization": lambda x: layers.GroupNormalization(groups=2)(x),
        "Identity": lambda x: layers.Identity()(x),
        "JaxLayer": Row(
            lambda x: layers.JaxLayer(_linear_in_jax, params={"kernel": np.full((6, 3), 0.2, "float32")})(x), only="jax"
        ),
        "Lambda": lambda x: layers.Lambda(lambda inputs: ops.sin(inputs))(x),
        "Layer": lambda x: Scale()(x),
        "LayerNormalization": lambda x: layers.LayerNormalization()(x),
        "LeakyReLU": lambda x: layers.LeakyReLU()(x),
        "Maximum": lambda x: layers.Maximum()(_pair(x)),
        "MelSpectrogram": lambda x: layers.MelSpectrogram(
            fft_length=4, sequence_stride=2, num_mel_bins=2, sampling_rate=100, power_to_db=False, mag_exp=1.0
        )(x),
        "Minimum": lambda x: layers.Minimum()(_pair(x)),
        "Multiply": lambda x: layers.Multiply()(_pair(x)),
        "Normalization": lambda x: layers.Normalization(mean=np.arange(6.0), variance=np.arange(1.0, 7.0))(x),
        "PReLU": lambda x: layers.PReLU(alpha_initializer="ones")(x),
        "RMSNormalization": lambda x: layers.RMSNormalization()(x),
        "ReLU": lambda x: layers.ReLU(negative_slope=0.1)(x),
        "RepeatVector": lambda x: layers.RepeatVector(2)(x),
        "Rescaling": lambda x: layers.Rescaling(0.5, offset=1.0)(x),
        "Reshape": lambda x: layers.Reshape((2, -1))(x),
        "STFTSpectrogram": lambda x: layers.STFTSpectrogram(mode="real", frame_length=4, frame_step=2, fft_length=4)(
            layers.Reshape((6, 1))(x)
        ),
        "Softmax": lambda x: layers.Softmax()(x),
        "SpectralNormalization": lambda x: layers.SpectralNormalization(layers.Dense(3))(x),
        "Subtract": lambda x: layers.Subtract()(_pair(x)),
        "TorchModuleWrapper": Row(_torch_module, only="torch"),
        "UnitNormalization": lambda x: layers.UnitNormalization()(x),
        "Wrapper": lambda x: Twice(layers.Dense(3))(x),
    },
    "sequence": {
        "AdaptiveAveragePooling1D": lambda x: layers.AdaptiveAveragePooling1D(2)(x),
        "AdaptiveMaxPooling1D": lambda x: layers.AdaptiveMaxPooling1D(2)(x),
        "AdditiveAttention": lambda x: layers.AdditiveAttention()(_pair(x)),
        "Attention": lambda x: layers.Attention(use_scale=True)(_pair(x)),
        "AveragePooling1D": lambda x: layers.AveragePooling1D(2)(x),
        "Bidirectional": lambda x: layers.Bidirectional(layers.LSTM(2))(x),
        "Conv1D": lambda x: layers.Conv1D(3, 2, activation="tanh")(x),
        "Conv1DTranspose": lambda x: layers.Conv1DTranspose(3, 2, strides=2)(x),
        "Cropping1D": lambda x: layers.Cropping1D(1)(x),
        "DepthwiseConv1D": lambda x: layers.DepthwiseConv1D(2, depth_multiplier=2)(x),
        "GRU": lambda x: layers.GRU(3)(x),
        "GRUCell": lambda x: layers.RNN(layers.GRUCell(3))(x),
        "GlobalAveragePooling1D": lambda x: layers.GlobalAveragePooling1D()(x),
        "GlobalMaxPooling1D": lambda x: layers.GlobalMaxPooling1D()(x),
        "GroupQueryAttention": lambda x: layers.GroupQueryAttention(2, 4, 2)(x, x),
        "LSTM": lambda x: layers.LSTM(3, return_sequences=True)(x),
        "LSTM unrolled backwards": lambda x: layers.LSTM(3, unroll=True, go_backwards=True)(x),
        "LSTMCell": lambda x: layers.RNN(layers.LSTMCell(3))(x),
        "Masking": lambda x: layers.GRU(2)(layers.Masking(0.0)(ops.relu(x - 1.0))),
        "MaxPooling1D": lambda x: layers.MaxPooling1D(2)(x),
        "MultiHeadAttention": lambda x: layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True),
        "Permute": lambda x: layers.Dense(2, activation="tanh")(layers.Permute((2, 1))(x)),
        "RNN": lambda x: layers.RNN([layers.SimpleRNNCell(3), layers.GRUCell(2)])(x),
        "SeparableConv1D": lambda x: layers.SeparableConv1D(3, 2)(x),
        "SimpleRNN": lambda x: layers.SimpleRNN(3)(x),
        "SimpleRNNCell": lambda x: layers.RNN(layers.SimpleRNNCell(3), return_sequences=True)(x),
        "StackedRNNCells": lambda x: layers.RNN(layers.StackedRNNCells([layers.LSTMCell(2), layers.SimpleRNNCell(3)]))(
            x
        ),
        "TimeDistributed": lambda x: layers.TimeDistributed(layers.Dense(2, activation="tanh"))(x),
        "UpSampling1D": lambda x: layers.UpSampling1D(2)(x),
        "ZeroPadding1D": lambda x: layers.ZeroPadding1D(1)(x),
    },
    "tokens": {
        "CategoryEncoding": lambda x: layers.CategoryEncoding(TOKENS)(x),
        "Embedding": lambda x: layers.Embedding(TOKENS, 3)(x),
        "Embedding masked": lambda x: layers.LSTM(2)(layers.Embedding(TOKENS, 3, mask_zero=True)(x)),
        "Hashing": Row(lambda x: layers.Hashing(3, output_mode="multi_hot")(x), only="tensorflow"),
        "HashedCrossing": Row(
            lambda x: layers.HashedCrossing(3, output_mode="one_hot")((x[:, :1], x[:, 1:2])), only="tensorflow"
        ),
        "IntegerLookup": Row(
            lambda x: layers.IntegerLookup(vocabulary=[1, 2, 5], output_mode="multi_hot")(x), only="tensorflow"
        ),
        "ReversibleEmbedding": lambda x: layers.ReversibleEmbedding(TOKENS, 3)(x),
    },
    "picture": {
        "AdaptiveAveragePooling2D": lambda x: layers.AdaptiveAveragePooling2D(2)(x),
        "AdaptiveMaxPooling2D": lambda x: layers.AdaptiveMaxPooling2D(2)(x),
        "AveragePooling2D": lambda x: layers.AveragePooling2D(2, padding="same")(x),
        "BatchNormalization of pictures": lambda x: layers.BatchNormalization(momentum=0.8)(x),
        "CenterCrop": lambda x: layers.CenterCrop(3, 3)(x),
        "Conv2D": lambda x: layers.Conv2D(2, 3, activation="tanh")(x),
        "Conv2D grouped": lambda x: layers.Conv2D(3, 2, groups=3, dilation_rate=2)(x),
        "Conv2DTranspose": lambda x: layers.Conv2DTranspose(2, 3, strides=2, padding="same")(x),
        "ConvLSTM1D": lambda x: layers.ConvLSTM1D(2, 2)(x),
        "Cropping2D": lambda x: layers.Cropping2D(2)(x),
        "DepthwiseConv2D": lambda x: layers.DepthwiseConv2D(2)(x),
        "GlobalAveragePooling2D": lambda x: layers.GlobalAveragePooling2D()(x),
        "GlobalMaxPooling2D": lambda x: layers.GlobalMaxPooling2D()(x),
        "MaxPooling2D": lambda x: layers.MaxPooling2D(3, strides=2, padding="same")(x),
        "Pipeline": lambda x: layers.Pipeline([layers.Rescaling(0.5), layers.CenterCrop(4, 4)])(x),
        "Resizing": lambda x: layers.Resizing(3, 4)(x),
        "SeparableConv2D": lambda x: layers.SeparableConv2D(2, 3)(x),
        "UpSampling2D": lambda x: layers.UpSampling2D(2, interpolation="bilinear")(x),
        "ZeroPadding2D": lambda x: layers.ZeroPadding2D(1)(x),
    },
    "features": {
        "Discretization": lambda x: layers.Discretization(bin_boundaries=[-0.5, 0.5], output_mode="one_hot")(x),
    },
    "pixels": {
        "AutoContrast": lambda x: layers.AutoContrast(value_range=(0, 1))(x),
        "ContrastLimitedAdaptiveHistogramEqualization": lambda x: layers.ContrastLimitedAdaptiveHistogramEqualization(
            value_range=(0, 1), tile_grid_size=(2, 2)
        )(x),
        "Equalization": lambda x: layers.Equalization(value_range=(0, 1))(x),
    },
    "volume": {
        "AdaptiveAveragePooling3D": lambda x: layers.AdaptiveAveragePooling3D(2)(x),
        "AdaptiveMaxPooling3D": lambda x: layers.AdaptiveMaxPooling3D(2)(x),
        "AveragePooling3D": lambda x: layers.AveragePooling3D(2)(x),
        "Conv3D": lambda x: layers.Conv3D(2, 2, activation="tanh")(x),
        "Conv3DTranspose": lambda x: layers.Conv3DTranspose(2, 2, strides=2)(x),
        "ConvLSTM2D": lambda x: layers.ConvLSTM2D(2, 2)(x),
        "ConvLSTM3D": lambda x: layers.ConvLSTM3D(1, 2)(_as_frames(x)),
        "Cropping3D": lambda x: layers.Cropping3D(1)(x),
        "GlobalAveragePooling3D": lambda x: layers.GlobalAveragePooling3D()(x),
        "GlobalMaxPooling3D": lambda x: layers.GlobalMaxPooling3D()(x),
        "MaxPooling3D": lambda x: layers.MaxPooling3D(2)(x),
        "UpSampling3D": lambda x: layers.UpSampling3D(2)(x),
        "ZeroPadding3D": lambda x: layers.ZeroPadding3D(1)(x),
    },
}
"""By kind of data: functions that apply the layer to a tensor of that kind."""

COLORS = {"value_range": (0, 1), "seed": 1}


def _crop(x: Any, on: float) -> Any:
    cropped = layers.RandomCrop(*((4, 4) if on else (6, 6)), seed=1)(x)
    return layers.GlobalMaxPooling2D()(cropped)  # also takes the uncropped pictures of inference


def _color_jitter(x: Any, on: float) -> Any:
    factors = {f"{name}_factor": 0.5 * on for name in ("brightness", "contrast", "saturation", "hue")}
    return layers.RandomColorJitter(**factors, **COLORS)(x)


def _if_black(layer: layers.Layer) -> Callable[..., Any]:
    """Wraps a layer that always draws; with ``on`` = 0 it gets black pictures, which it does not change."""
    return lambda x, on: layer(x if on else ops.zeros_like(x))


WITHOUT_GRADIENT = ("key/bias",)
"""Weights that a softmax cancels: their gradients are rounding errors, which Adam scales up to full steps."""

TOKENS_THAT_REPEAT = ("Embedding", "Embedding masked", "ReversibleEmbedding")
"""Layers for which Keras on TensorFlow alone adds the squared gradients of a repeated token in Adam and similar
optimizers. ``fit`` squares the sum on each backend; test_any_model.py compares it with NumPy."""

DRAWS_REGARDLESS = {
    "AugMix": "draws how much of each picture it mixes whatever its factor",
    "RandomPosterization": "rounds to whole levels, at whose edges the last bit of a float decides",
}
"""Layers that cannot be compared without their random numbers, and why."""

DRAWS_FROM_ELSEWHERE = {
    "AugMix": "Keras makes generators during the call, which no checkpoint can hold",
    "RandomElasticTransform": "Keras makes a generator during the call, which no checkpoint can hold",
}
"""Layers whose random numbers are not reproducible after a resume, and why."""

DRAWN: dict[str, dict[str, Callable[..., Any] | Row]] = {
    "vector": {
        "AlphaDropout": lambda x, on: layers.AlphaDropout(0.5 * on, seed=1)(x),
        "Dropout": lambda x, on: layers.Dropout(0.5 * on, seed=1)(x),
        "GaussianDropout": lambda x, on: layers.GaussianDropout(0.5 * on, seed=1)(x),
        "GaussianNoise": lambda x, on: layers.GaussianNoise(0.5 * on, seed=1)(x),
    },
    "sequence": {
        "GRU recurrent dropout": lambda x, on: layers.GRU(3, recurrent_dropout=0.5 * on, seed=1)(x),
        "GroupQueryAttention dropout": lambda x, on: layers.GroupQueryAttention(2, 4, 2, dropout=0.5 * on, seed=1)(
            x, x
        ),
        "LSTM dropout": lambda x, on: layers.LSTM(3, dropout=0.5 * on, seed=1)(x),
        "MultiHeadAttention dropout": lambda x, on: layers.MultiHeadAttention(2, 3, dropout=0.5 * on, seed=1)(x, x),
        "SpatialDropout1D": lambda x, on: layers.SpatialDropout1D(0.5 * on, seed=1)(x),
    },
    "picture": {
        "SpatialDropout2D": lambda x, on: layers.SpatialDropout2D(0.5 * on, seed=1)(x),
    },
    "volume": {
        "SpatialDropout3D": lambda x, on: layers.SpatialDropout3D(0.5 * on, seed=1)(x),
    },
    "pixels": {
        "AugMix": lambda x, on: _if_black(layers.AugMix(num_chains=1, chain_depth=1, factor=0.5 * on, **COLORS))(x, on),
        "CutMix": lambda x, on: _if_black(layers.CutMix(seed=1))(x, on),
        "MixUp": lambda x, on: _if_black(layers.MixUp(seed=1))(x, on),
        "RandAugment": lambda x, on: _if_black(layers.RandAugment(num_ops=1, factor=0.5 * on, **COLORS))(x, on),
        "RandomBrightness": lambda x, on: layers.RandomBrightness(0.5 * on, **COLORS)(x),
        "RandomColorDegeneration": lambda x, on: layers.RandomColorDegeneration(0.5 * on, **COLORS)(x),
        "RandomColorJitter": _color_jitter,
        "RandomContrast": lambda x, on: layers.RandomContrast(0.5 * on, **COLORS)(x),
        "RandomCrop": _crop,
        "RandomElasticTransform": lambda x, on: layers.RandomElasticTransform(1.0 * on, **COLORS)(x),
        "RandomErasing": lambda x, on: layers.RandomErasing(1.0 * on, **COLORS)(x),
        "RandomFlip": lambda x, on: _if_black(layers.RandomFlip(seed=1))(x, on),
        "RandomGaussianBlur": lambda x, on: layers.RandomGaussianBlur(1.0 * on, **COLORS)(x),
        "RandomGrayscale": lambda x, on: layers.RandomGrayscale(0.5 * on, seed=1)(x),
        "RandomHue": lambda x, on: layers.RandomHue(0.5 * on, **COLORS)(x),
        "RandomInvert": lambda x, on: layers.RandomInvert((0.5 * on, 0.5 * on), **COLORS)(x),
        "RandomPerspective": lambda x, on: layers.RandomPerspective(1.0 * on, seed=1)(x),
        "RandomPosterization": lambda x, on: layers.RandomPosterization(4 if on else 8, **COLORS)(x),
        "RandomRotation": lambda x, on: layers.RandomRotation(0.5 * on, seed=1)(x),
        "RandomSaturation": lambda x, on: layers.RandomSaturation(0.5 * on, **COLORS)(x),
        "RandomSharpness": lambda x, on: layers.RandomSharpness(0.5 * on, **COLORS)(x),
        "RandomShear": lambda x, on: layers.RandomShear((0.0, 0.5 * on), (0.0, 0.5 * on), seed=1)(x),
        "RandomTranslation": lambda x, on: layers.RandomTranslation(0.5 * on, 0.5 * on, seed=1)(x),
        "RandomZoom": lambda x, on: layers.RandomZoom(0.5 * on, seed=1)(x),
        "Solarization": lambda x, on: layers.Solarization(0.5 * on, 0.5 * on, **COLORS)(x),
    },
}
"""By kind of data: layers with random numbers in training. ``on`` is 1, or 0 for a setting that changes nothing."""

NOT_LAYERS = {
    "InputLayer": "each model of this test starts with one",
    "InputSpec": "describes what a layer takes, and is none",
    "MaxNumBoundingBoxes": "changes dictionaries of bounding boxes, which no model of Keras' layers takes",
    "StringLookup": "takes strings",
    "TFSMLayer": "loads a SavedModel, which has no weights that train",
    "TextVectorization": "takes strings",
}

# --- Losses ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """A kind of labels, and the output of a model for them."""

    units: int
    ending: str
    draw: Callable[[np.random.Generator, int], np.ndarray]


TARGETS = {
    "real": Target(3, "linear", lambda draw, count: draw.normal(size=(count, 3)).astype("float32")),
    "positive": Target(3, "softplus", lambda draw, count: draw.uniform(0.5, 2, (count, 3)).astype("float32")),
    "signs": Target(3, "tanh", lambda draw, count: np.sign(draw.normal(size=(count, 3))).astype("float32")),
    "yes or no": Target(1, "linear", lambda draw, count: draw.integers(0, 2, (count, 1)).astype("float32")),
    "probability": Target(1, "sigmoid", lambda draw, count: draw.integers(0, 2, (count, 1)).astype("float32")),
    "classes": Target(4, "linear", lambda draw, count: draw.integers(0, 4, count).astype("int32")),
    "classes, softmax": Target(4, "softmax", lambda draw, count: draw.integers(0, 4, count).astype("int32")),
    "one hot": Target(4, "linear", lambda draw, count: np.eye(4, dtype="float32")[draw.integers(0, 4, count)]),
    "one hot, softmax": Target(
        4, "softmax", lambda draw, count: np.eye(4, dtype="float32")[draw.integers(0, 4, count)]
    ),
    "unit": Target(4, "unit", lambda draw, count: draw.integers(0, 2, count).astype("int32")),
    "words": Target(12, "frames", lambda draw, count: draw.integers(1, 3, (count, 2)).astype("int32")),
}
"""Kinds of labels. An ending is an activation, ``unit`` (length 1) or ``frames`` (four times three logits)."""


@keras.saving.register_keras_serializable("as_keras")
class FourthPower(losses.Loss):
    """A user-defined loss."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return ops.mean(ops.subtract(y_pred, y_true) ** 4, axis=-1)


@keras.saving.register_keras_serializable("as_keras")
def absolute(y_true: Any, y_pred: Any) -> Any:
    """A loss that is a function."""
    return ops.mean(ops.abs(ops.subtract(y_pred, y_true)), axis=-1)


LOSSES: dict[str, tuple[str, Callable[[], Any]]] = {
    "BinaryCrossentropy": ("yes or no", lambda: losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1)),
    "BinaryCrossentropy sigmoid": ("probability", losses.BinaryCrossentropy),
    "BinaryFocalCrossentropy": ("probability", lambda: losses.BinaryFocalCrossentropy(apply_class_balancing=True)),
    "BinaryFocalCrossentropy logits": ("yes or no", lambda: losses.BinaryFocalCrossentropy(from_logits=True)),
    "CTC": ("words", losses.CTC),
    "CategoricalCrossentropy": ("one hot", lambda: losses.CategoricalCrossentropy(from_logits=True)),
    "CategoricalCrossentropy softmax": ("one hot, softmax", losses.CategoricalCrossentropy),
    "CategoricalFocalCrossentropy": ("one hot, softmax", losses.CategoricalFocalCrossentropy),
    "CategoricalFocalCrossentropy logits": ("one hot", lambda: losses.CategoricalFocalCrossentropy(from_logits=True)),
    "CategoricalGeneralizedCrossEntropy": ("classes, softmax", losses.CategoricalGeneralizedCrossEntropy),
    "CategoricalHinge": ("one hot", losses.CategoricalHinge),
    "Circle": ("unit", lambda: losses.Circle(gamma=2.0)),
    "CosineSimilarity": ("real", losses.CosineSimilarity),
    "Dice": ("probability", losses.Dice),
    "Hinge": ("signs", losses.Hinge),
    "Huber": ("real", lambda: losses.Huber(delta=0.5)),
    "KLDivergence": ("one hot, softmax", losses.KLDivergence),
    "LogCosh": ("real", losses.LogCosh),
    "Loss": ("real", FourthPower),
    "Loss of a function": ("real", lambda: absolute),
    "MeanAbsoluteError": ("real", losses.MeanAbsoluteError),
    "MeanAbsolutePercentageError": ("positive", losses.MeanAbsolutePercentageError),
    "MeanSquaredError": ("real", losses.MeanSquaredError),
    "MeanSquaredError sum": ("real", lambda: losses.MeanSquaredError(reduction="sum")),
    "MeanSquaredLogarithmicError": ("positive", losses.MeanSquaredLogarithmicError),
    "Poisson": ("positive", losses.Poisson),
    "SparseCategoricalCrossentropy": ("classes", lambda: losses.SparseCategoricalCrossentropy(from_logits=True)),
    "SparseCategoricalCrossentropy ignoring": (
        "classes",
        lambda: losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0),
    ),
    "SparseCategoricalCrossentropy softmax": ("classes, softmax", losses.SparseCategoricalCrossentropy),
    "SquaredHinge": ("signs", losses.SquaredHinge),
    "Tversky": ("probability", losses.Tversky),
}
"""The kind of labels, and the loss. Functions of keras.losses are tested by name in the same test."""

# --- Metrics ---------------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("as_keras")
class Largest(metrics.Metric):
    """A user-defined metric that is no mean: the largest error of the epoch."""

    def __init__(self, name: str = "largest", **settings: Any) -> None:
        super().__init__(name=name, **settings)
        self.largest = self.add_weight(name="largest", initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        error = ops.max(ops.abs(y_pred - ops.cast(y_true, y_pred.dtype)))
        self.largest.assign(ops.maximum(self.largest, error))

    def result(self) -> Any:
        return self.largest + 0.0


METRICS: dict[str, dict[str, Callable[..., Any]]] = {
    "probability": {
        "AUC": metrics.AUC,
        "BinaryAccuracy": metrics.BinaryAccuracy,
        "BinaryCrossentropy": metrics.BinaryCrossentropy,
        "BinaryIoU": metrics.BinaryIoU,
        "FalseNegatives": metrics.FalseNegatives,
        "FalsePositives": metrics.FalsePositives,
        "Precision": metrics.Precision,
        "PrecisionAtRecall": lambda **name: metrics.PrecisionAtRecall(0.5, **name),
        "Recall": metrics.Recall,
        "RecallAtPrecision": lambda **name: metrics.RecallAtPrecision(0.5, **name),
        "SensitivityAtSpecificity": lambda **name: metrics.SensitivityAtSpecificity(0.5, **name),
        "SpecificityAtSensitivity": lambda **name: metrics.SpecificityAtSensitivity(0.5, **name),
        "TrueNegatives": metrics.TrueNegatives,
        "TruePositives": metrics.TruePositives,
    },
    "one hot, softmax": {
        "CategoricalAccuracy": metrics.CategoricalAccuracy,
        "CategoricalCrossentropy": metrics.CategoricalCrossentropy,
        "CategoricalHinge": metrics.CategoricalHinge,
        "F1Score": lambda **name: metrics.F1Score(average="macro", **name),
        "FBetaScore": lambda **name: metrics.FBetaScore(average="micro", beta=2.0, **name),
        "KLDivergence": metrics.KLDivergence,
        "OneHotIoU": lambda **name: metrics.OneHotIoU(4, [0, 2], **name),
        "OneHotMeanIoU": lambda **name: metrics.OneHotMeanIoU(4, **name),
        "TopKCategoricalAccuracy": lambda **name: metrics.TopKCategoricalAccuracy(k=2, **name),
    },
    "classes, softmax": {
        "IoU": lambda **name: metrics.IoU(4, [0, 1], sparse_y_pred=False, **name),
        "MeanIoU": lambda **name: metrics.MeanIoU(4, sparse_y_pred=False, **name),
        "SparseCategoricalAccuracy": metrics.SparseCategoricalAccuracy,
        "SparseCategoricalCrossentropy": metrics.SparseCategoricalCrossentropy,
        "SparseTopKCategoricalAccuracy": lambda **name: metrics.SparseTopKCategoricalAccuracy(k=2, **name),
    },
    "real": {
        "ConcordanceCorrelation": metrics.ConcordanceCorrelation,
        "CosineSimilarity": metrics.CosineSimilarity,
        "LogCoshError": metrics.LogCoshError,
        "MeanAbsoluteError": metrics.MeanAbsoluteError,
        "MeanMetricWrapper": lambda **name: metrics.MeanMetricWrapper(absolute, **name),
        "MeanSquaredError": metrics.MeanSquaredError,
        "Metric": Largest,
        "PearsonCorrelation": metrics.PearsonCorrelation,
        "R2Score": metrics.R2Score,
        "RootMeanSquaredError": metrics.RootMeanSquaredError,
    },
    "positive": {
        "Accuracy": metrics.Accuracy,
        "MeanAbsolutePercentageError": metrics.MeanAbsolutePercentageError,
        "MeanSquaredLogarithmicError": metrics.MeanSquaredLogarithmicError,
        "Poisson": metrics.Poisson,
    },
    "signs": {"Hinge": metrics.Hinge, "SquaredHinge": metrics.SquaredHinge},
}
"""By kind of labels; each gets a name, to which Keras would otherwise append a number."""

NOT_METRICS = {
    "Mean": "takes values, and neither labels nor outputs",
    "Sum": "takes values, and neither labels nor outputs",
}

# --- Optimizers ------------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("as_keras")
class SoftSigns(optimizers.Optimizer):
    """A user-defined optimizer."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * ops.softsign(10 * gradient))


@keras.saving.register_keras_serializable("as_keras")
class HalfSgd(optimizers.SGD):
    """A subclass with another update than its parent."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        super().update_step(gradient * 0.5, variable, learning_rate)


@keras.saving.register_keras_serializable("as_keras")
class Halving(optimizers.schedules.LearningRateSchedule):
    """A user-defined learning-rate schedule."""

    def __call__(self, step: Any) -> Any:
        return 0.1 * 0.5 ** ops.cast(step, "float32")

    def get_config(self) -> dict[str, Any]:
        return {}


def _two_optimizers() -> Any:
    chosen = optimizers.OptimizerMap(optimizers.SGD(0.1))
    chosen["hidden.*"] = optimizers.Adam(0.05)
    return optimizers.MultiOptimizer(chosen)


OPTIMIZERS: dict[str, Callable[[], Any] | Row] = {
    "Adadelta": lambda: optimizers.Adadelta(1.0),
    "Adafactor": lambda: optimizers.Adafactor(0.05),
    "Adagrad": lambda: optimizers.Adagrad(0.1),
    "Adam": lambda: optimizers.Adam(0.05),
    "Adam amsgrad": lambda: optimizers.Adam(0.05, amsgrad=True, beta_1=0.5),
    "Adam accumulating": lambda: optimizers.Adam(0.05, gradient_accumulation_steps=3),
    "Adam ema": lambda: optimizers.Adam(0.05, use_ema=True, ema_momentum=0.8),
    "Adam scaled": lambda: optimizers.Adam(0.05, loss_scale_factor=1024.0, global_clipnorm=0.5),
    "AdamW": lambda: optimizers.AdamW(0.05, weight_decay=0.1),
    "Adamax": lambda: optimizers.Adamax(0.05),
    "Ftrl": lambda: optimizers.Ftrl(0.1, l1_regularization_strength=0.01, l2_regularization_strength=0.01),
    "Lamb": lambda: optimizers.Lamb(0.05),
    "Lion": lambda: optimizers.Lion(0.01),
    "LossScaleOptimizer": lambda: optimizers.LossScaleOptimizer(
        optimizers.SGD(0.1), initial_scale=1024.0, dynamic_growth_steps=3
    ),
    "MultiOptimizer": _two_optimizers,
    "Muon": lambda: optimizers.Muon(0.05),
    "Nadam": lambda: optimizers.Nadam(0.05),
    "Optimizer": lambda: SoftSigns(0.01),
    "RMSprop": lambda: optimizers.RMSprop(0.02),
    "RMSprop centered": lambda: optimizers.RMSprop(0.02, centered=True, momentum=0.5),
    "SGD": lambda: optimizers.SGD(0.1),
    "SGD clipped": lambda: optimizers.SGD(0.1, clipnorm=0.1, weight_decay=0.01),
    "SGD clipped by value": lambda: optimizers.SGD(0.1, clipvalue=0.05, use_ema=True, ema_overwrite_frequency=3),
    "SGD nesterov": lambda: optimizers.SGD(0.03, momentum=0.9, nesterov=True),
    "SGD subclass": lambda: HalfSgd(0.1, momentum=0.5),
    "ScheduleFreeAdamW": lambda: optimizers.ScheduleFreeAdamW(0.05, warmup_steps=3),
}

NOT_OPTIMIZERS = {"OptimizerMap": "an argument of MultiOptimizer"}

SCHEDULES: dict[str, tuple[str, Callable[[], Any]]] = {
    "CosineDecay": ("SGD", lambda: optimizers.schedules.CosineDecay(0.1, 6, warmup_target=0.2, warmup_steps=2)),
    "CosineDecayRestarts": ("Adam", lambda: optimizers.schedules.CosineDecayRestarts(0.1, 3)),
    "ExponentialDecay": ("RMSprop", lambda: optimizers.schedules.ExponentialDecay(0.02, 3, 0.5, staircase=True)),
    "InverseTimeDecay": ("Adagrad", lambda: optimizers.schedules.InverseTimeDecay(0.1, 2, 0.5)),
    "LearningRateSchedule": ("SGD", Halving),
    "PiecewiseConstantDecay": ("Nadam", lambda: optimizers.schedules.PiecewiseConstantDecay([2, 5], [0.1, 0.05, 0.01])),
    "PolynomialDecay": ("AdamW", lambda: optimizers.schedules.PolynomialDecay(0.1, 5, power=2.0)),
}
"""An optimizer, and its learning rate."""

# --- Callbacks -------------------------------------------------------------------------------------------------


class Diary(keras.callbacks.Callback):
    """A user-defined callback that records each call of each hook with its numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.numbers: list[float] = []
        for kind in ("epoch", "train_batch", "test_batch", "train", "test"):
            for end in ("begin", "end"):
                setattr(self, f"on_{kind}_{end}", partial(self._note, f"{kind}_{end}"))

    def _note(self, hook: str, *arguments: Any, **logs: Any) -> None:
        logs = logs.get("logs") or (arguments[-1] if arguments and isinstance(arguments[-1], dict) else {})
        counted = [argument for argument in arguments if isinstance(argument, int)]
        self.calls.append(" ".join(map(str, [hook, *counted, *sorted(logs)])))
        self.numbers += [float(logs[name]) for name in sorted(logs)]


class StopAt(keras.callbacks.Callback):
    """Stops within an epoch."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.model.stop_training = batch == 1


@dataclass(frozen=True)
class CallbackRow(Row):
    """A function that makes a callback for a folder, and one for the numbers that it leaves after training."""

    leaves: Callable[[Any, Path], Any] = lambda callback, folder: []
    epochs: int = 2
    optimizer: str = "SGD"


def _weights_in(folder: Path) -> list[Any]:
    """Returns all arrays in the weight files of a folder."""
    import h5py

    found = []
    for path in sorted(folder.glob("*.weights.h5")):
        with h5py.File(path) as file:
            file.visititems(lambda name, item: found.append(item[()]) if hasattr(item, "shape") else None)
    return found


CALLBACKS: dict[str, CallbackRow] = {
    "BackupAndRestore": CallbackRow(lambda folder: keras.callbacks.BackupAndRestore(folder / "backup")),
    "CSVLogger": CallbackRow(
        lambda folder: keras.callbacks.CSVLogger(folder / "log.csv"),
        leaves=lambda callback, folder: np.loadtxt(folder / "log.csv", delimiter=",", skiprows=1),
    ),
    "Callback": CallbackRow(lambda folder: Diary(), leaves=lambda callback, folder: callback.numbers),
    "Callback stopping": CallbackRow(lambda folder: StopAt()),
    "EarlyStopping": CallbackRow(
        lambda folder: keras.callbacks.EarlyStopping(min_delta=9.0, patience=2, restore_best_weights=True), epochs=4
    ),
    "History": CallbackRow(
        lambda folder: keras.callbacks.History(), leaves=lambda callback, folder: callback.history["val_loss"]
    ),
    "LambdaCallback": CallbackRow(
        lambda folder: keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: (folder / f"{epoch}.txt").write_text(str(logs["loss"]))
        ),
        leaves=lambda callback, folder: [float((folder / f"{epoch}.txt").read_text()) for epoch in range(2)],
    ),
    "LearningRateScheduler": CallbackRow(
        lambda folder: keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    ),
    "ModelCheckpoint": CallbackRow(
        lambda folder: keras.callbacks.ModelCheckpoint(folder / "{epoch}.weights.h5", save_weights_only=True),
        leaves=lambda callback, folder: np.concatenate([array.ravel() for array in _weights_in(folder)]),
    ),
    "ModelCheckpoint by batches": CallbackRow(
        lambda folder: keras.callbacks.ModelCheckpoint(
            folder / "{batch}.weights.h5", save_freq=3, save_weights_only=True
        ),
        leaves=lambda callback, folder: np.concatenate([array.ravel() for array in _weights_in(folder)]),
    ),
    "OrbaxCheckpoint": CallbackRow(lambda folder: keras.callbacks.OrbaxCheckpoint(folder / "orbax"), needs="orbax"),
    "ProgbarLogger": CallbackRow(lambda folder: keras.callbacks.ProgbarLogger()),
    "ReduceLROnPlateau": CallbackRow(
        lambda folder: keras.callbacks.ReduceLROnPlateau(min_delta=9.0, patience=1, factor=0.5), epochs=3
    ),
    "RemoteMonitor": CallbackRow(
        lambda folder: keras.callbacks.RemoteMonitor("http://127.0.0.1:9"),  # no server there: it only warns
        needs="requests",
    ),
    "SwapEMAWeights": CallbackRow(
        lambda folder: keras.callbacks.SwapEMAWeights(swap_on_epoch=True), optimizer="Adam ema"
    ),
    "TensorBoard": CallbackRow(
        lambda folder: keras.callbacks.TensorBoard(folder / "board"), only="tensorflow", needs="tensorboard"
    ),
    "TerminateOnNaN": CallbackRow(lambda folder: keras.callbacks.TerminateOnNaN()),
}

NOT_CALLBACKS = {"CallbackList": "a container of callbacks"}


# --- Models ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A model, its data and settings; functions, because each of the two trainings needs new objects."""

    build: Callable[[], keras.Model]
    x: Any  # for some number of samples
    y: Any
    loss: Callable[[], Any]
    metrics: Callable[[], Any] = dict
    weights: Any = None  # for some number of samples: sample_weight
    settings: Any = None  # further arguments of both trainings: loss_weights, weighted_metrics
    class_weight: Any = None


def _vectors(count: int) -> np.ndarray:
    return samples("vector", count)


def _labels(target: str) -> Callable[[int], np.ndarray]:
    return lambda count: TARGETS[target].draw(np.random.default_rng(count), count)


def _two_vectors(count: int) -> dict[str, np.ndarray]:
    return {"a": samples("vector", count, seed=1), "b": samples("sequence", count, seed=2)}


def _two_labels(count: int) -> dict[str, np.ndarray]:
    return {"class": _labels("classes")(count), "number": _labels("real")(count)}


def _weights(count: int) -> np.ndarray:
    return np.random.default_rng(count).uniform(0.2, 2, count).astype("float32")


def _x(kind: str = "vector", **settings: Any) -> Any:
    return keras.Input(SHAPES[kind], **settings)


def _classifier(ending: str | None = None) -> keras.Model:
    x = _x()
    hidden = layers.Dense(5, "tanh", name="hidden")(x)
    return keras.Model(x, layers.Dense(4, ending, name="classes")(hidden))


def _two_in_two_out(as_dictionary: bool) -> keras.Model:
    a, b = _x(name="a"), _x("sequence", name="b")
    both = layers.Concatenate()([layers.Dense(3, "tanh", name="from_a")(a), layers.GRU(3, name="from_b")(b)])
    outputs = {"class": layers.Dense(4, name="class")(both), "number": layers.Dense(3, name="number")(both)}
    if as_dictionary:
        return keras.Model({"a": a, "b": b}, outputs)
    return keras.Model([a, b], list(outputs.values()))


def _masked_words() -> keras.Model:
    x = _x("tokens", dtype="int32")
    vectors = layers.Embedding(TOKENS, 3, mask_zero=True, name="embedding")(x)
    return keras.Model(x, layers.Dense(4, name="words")(layers.LSTM(3, return_sequences=True, name="lstm")(vectors)))


def _shared() -> keras.Model:
    x = _x()
    twice = layers.Dense(6, "tanh", name="shared")
    return keras.Model(x, layers.Dense(4, name="classes")(twice(twice(x))))


def _nested() -> keras.Model:
    x = _x()
    inner = keras.Sequential([layers.Dense(4, "tanh"), layers.BatchNormalization()], name="inner")
    return keras.Model(x, layers.Dense(4, name="classes")(inner(x)))


def _frozen() -> keras.Model:
    x = _x()
    frozen = layers.BatchNormalization(trainable=False, name="frozen_norm")(layers.Dense(5, trainable=False)(x))
    return keras.Model(x, layers.Dense(4, name="classes")(frozen))


def _penalized() -> keras.Model:
    x = _x()
    hidden = layers.Dense(5, "tanh", kernel_regularizer=keras.regularizers.L1L2(0.1, 0.1), activity_regularizer="l2")(x)
    hidden = layers.ActivityRegularization(l1=0.1)(layers.Dense(5, kernel_constraint="unit_norm")(hidden))
    orthogonal = keras.regularizers.OrthogonalRegularizer(0.1)
    return keras.Model(x, layers.Dense(4, kernel_regularizer=orthogonal, bias_constraint="non_neg")(hidden))


def _pixels() -> keras.Model:
    x = _x("picture")
    return keras.Model(x, layers.Conv2D(4, 3, padding="same", name="pixels")(x))


def _pixel_labels(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 4, (count, 6, 6)).astype("int32")


def _word_labels(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 4, (count, 5)).astype("int32")


class Subclassed(keras.Model):
    """A user-defined model class, which is built on the first data."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = layers.Dense(5, "tanh", name="hidden")
        self.classes = layers.Dense(4, name="classes")

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.classes(self.hidden(inputs))


class OwnLoss(Subclassed):
    """A model that computes its own loss from inputs and outputs."""

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, **kw: Any
    ) -> Any:
        return super().compute_loss(x, y, y_pred, sample_weight, **kw) + 0.1 * ops.mean(ops.square(y_pred)) * ops.mean(
            x
        )


class Reconstruction(Subclassed):
    """A model that needs no labels."""

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, **kw: Any
    ) -> Any:
        return ops.mean(ops.square(ops.subtract(y_pred, x[:, :4])))


def _own_step() -> type[keras.Model]:
    """Returns a model class whose ``train_step`` doubles the inputs; its arguments depend on the backend."""

    class OwnStep(Subclassed):
        if keras.backend.backend() == "jax":

            def train_step(self, state: Any, data: Any) -> Any:
                return super().train_step(state, (data[0] * 2, *data[1:]))
        else:

            def train_step(self, data: Any) -> Any:
                return super().train_step((data[0] * 2, *data[1:]))

    return OwnStep


def _built(kind: type[keras.Model]) -> keras.Model:
    model = kind()
    model(np.zeros((1, *SHAPES["vector"]), "float32"))
    return model


def _sparse(**settings: Any) -> Callable[[], Any]:
    return lambda: losses.SparseCategoricalCrossentropy(**{"from_logits": True} | settings)


def _per_output() -> dict[str, Any]:
    return {"class": losses.SparseCategoricalCrossentropy(from_logits=True), "number": losses.MeanSquaredError()}


CASES: dict[str, Case] = {
    "masked words": Case(_masked_words, partial(samples, "tokens"), _word_labels, _sparse()),
    "ignored class": Case(
        _pixels, partial(samples, "picture"), _pixel_labels, _sparse(ignore_class=0), lambda: ["accuracy"]
    ),
    "pixels": Case(_pixels, partial(samples, "picture"), _pixel_labels, _sparse(), lambda: ["accuracy"]),
    "penalties and constraints": Case(_penalized, _vectors, _labels("classes"), _sparse()),
    "shared layer": Case(_shared, _vectors, _labels("classes"), _sparse()),
    "nested model": Case(_nested, _vectors, _labels("classes"), _sparse()),
    "frozen layers": Case(_frozen, _vectors, _labels("classes"), _sparse()),
    "softmax at the end": Case(
        partial(_classifier, "softmax"), _vectors, _labels("classes"), _sparse(from_logits=False), lambda: ["accuracy"]
    ),
    "sequential": Case(
        lambda: keras.Sequential([_x(), layers.Dense(4, name="classes")]), _vectors, _labels("classes"), _sparse()
    ),
    "dictionaries": Case(
        partial(_two_in_two_out, True),
        _two_vectors,
        _two_labels,
        _per_output,
        lambda: {"class": ["accuracy"], "number": [metrics.MeanAbsoluteError(name="mae")]},
        settings=lambda: {"loss_weights": {"class": 1.0, "number": 0.3}},
    ),
    "lists": Case(
        partial(_two_in_two_out, False),
        lambda count: list(_two_vectors(count).values()),
        lambda count: list(_two_labels(count).values()),
        lambda: list(_per_output().values()),
    ),
    "sample weights": Case(
        _classifier,
        _vectors,
        _labels("classes"),
        _sparse(),
        lambda: ["accuracy"],
        weights=_weights,
        settings=lambda: {"weighted_metrics": [metrics.SparseCategoricalAccuracy(name="weighted")]},
    ),
    "class weights": Case(
        _classifier, _vectors, _labels("classes"), _sparse(), class_weight={0: 1.0, 1: 2.0, 2: 0.5, 3: 1.5}
    ),
    "subclassed": Case(partial(_built, Subclassed), _vectors, _labels("classes"), _sparse()),
    "own compute_loss": Case(partial(_built, OwnLoss), _vectors, _labels("classes"), _sparse()),
    "own train_step": Case(lambda: _built(_own_step()), _vectors, _labels("classes"), _sparse(), lambda: ["accuracy"]),
}
"""Whole models with data and settings."""

# Why Keras' own trainer takes the steps: on PyTorch it calls Python code in each step, which a graph cannot do.
_OWN_CODE = "user-defined code may act differently in each call"
_LOOKS = "the code of Keras branches on values"
_NO_XLA = "XLA cannot compile it, according to XLA or Keras"

BY_KERAS: dict[str, dict[str, str]] = {
    **{
        label: {"torch": _OWN_CODE}
        for label in (
            *("Layer", "Loss", "Metric", "Wrapper", "Optimizer", "SGD subclass", "LearningRateSchedule"),
            *("subclassed", "own compute_loss"),
        )
    },
    **{
        label: {"torch": _LOOKS}
        for label in (
            *("Adam accumulating", "SGD clipped by value", "LossScaleOptimizer", "Hinge", "SquaredHinge"),
            *("BinaryIoU", "IoU", "MeanIoU", "OneHotIoU", "OneHotMeanIoU"),
            *(label for label in DRAWN["pixels"] if label not in ("RandomCrop", "RandomElasticTransform")),
        )
    },
    **{
        label: {"tensorflow": _NO_XLA}
        for label in ("CategoryEncoding", "Conv2D grouped", "HashedCrossing", "Hashing", "IntegerLookup")
    },
    **{label: {"torch": _LOOKS, "tensorflow": _NO_XLA} for label in ("CutMix", "MixUp")},
    "RandomCrop": {"jax": _NO_XLA, "tensorflow": _NO_XLA},
    **{
        label: {"torch": _LOOKS, "jax": _NO_XLA, "tensorflow": _NO_XLA}
        for label in (
            *("RandAugment", "RandomPerspective", "RandomRotation", "RandomShear", "RandomTranslation", "RandomZoom"),
        )
    },
    "CTC": {"torch": "its shapes depend on the labels"},
    "ScheduleFreeAdamW": {"torch": "it reads a momentum after changing it in place"},
    "SpectralNormalization": {"torch": "its calls change its kernel, which the optimizer then updates"},
    "TorchModuleWrapper": {"torch": "its module has parameters of its own"},
    "own train_step": dict.fromkeys(("jax", "tensorflow", "torch"), "only Keras' trainer calls it"),
}
"""Rows whose steps Keras' own trainer takes, on which backends, and why; all others are compiled."""


# --- Models that fit refuses -----------------------------------------------------------------------------------


def _stateful() -> keras.Model:
    x = keras.Input(batch_shape=(4, *SHAPES["sequence"]))
    return keras.Model(x, layers.Dense(1)(layers.LSTM(2, stateful=True, name="memory")(x)))


def _batches_of_five() -> keras.Model:
    x = keras.Input(batch_shape=(5, *SHAPES["sequence"]))
    return keras.Model(x, layers.Dense(1)(layers.Flatten()(x)))


REFUSED: dict[str, tuple[Callable[[], keras.Model], str, str]] = {
    "a stateful layer": (
        _stateful,
        "the layer 'memory' is stateful",
        "Keras keeps its state only on TensorFlow: on JAX it is lost, and PyTorch's gradients fail",
    ),
    "batches of another size": (
        _batches_of_five,
        "batch_size is 4; the model takes batches of 5 and no others",
        "Keras fails in the first step",
    ),
}
"""Models, the error of ``fit`` before any computation, and the reason."""
