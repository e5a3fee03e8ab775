"""Each layer and operation of the installed Keras can be opened after saving, or is refused before saving."""

import inspect
import random

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_course._backend.keras_private import operations_of_keras
from keras_course._backend.weights import is_plain
from keras_course.allow_list import ALLOWED_OPERATIONS, REFUSED_LAYERS, REFUSED_OPERATIONS, check_can_be_opened
from keras_course.deployment.model_files import load_keras_model
from keras_course.errors import CourseError
from keras_course.pretrained.transfer import Backbone


def model_of(build, *shape, dtype="float32"):
    inputs = keras.Input(shape or (6,), dtype=dtype)
    return keras.Model(inputs, build(inputs))


def samples_for(model):
    """Draws numbers from 0 to 4, some of them equal, for each input of a model."""
    draw = np.random.default_rng(0)
    return [
        draw.uniform(0, 4, (2, *(side or 5 for side in end.shape[1:]))).round(1).astype(end.dtype)
        for end in model.inputs
    ]


def outputs_of(model, samples):
    single = len(samples) == 1
    return keras.tree.map_structure(ops.convert_to_numpy, model(samples[0] if single else samples, training=False))


def assert_opened(model, folder):
    """Checks, saves and opens a model, and compares the outputs of both."""
    check_can_be_opened(model)
    model.save(folder / "model.keras")
    opened = load_keras_model(folder / "model.keras")
    samples = samples_for(model)
    expected, found = outputs_of(model, samples), outputs_of(opened, samples)
    for one, other in zip(keras.tree.flatten(found), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(one.astype("complex64"), other.astype("complex64"), rtol=1e-5, atol=1e-5)
    return opened


# --- Layers ----------------------------------------------------------------------------------------------------

SHAPES = [(4,), (6, 3), (4, 4, 3), (4, 4, 4, 3), (4, 4, 4, 4, 3)]
REQUIRED = {
    "activation": "relu",
    "axes": 1,
    "cropping": 1,
    "dims": (2, 1),
    "equation": "...a,ab->...b",
    "filters": 2,
    "head_dim": 3,
    "height": 3,
    "input_dim": 9,
    "kernel_size": 2,
    "key_dim": 3,
    "max_number": 3,
    "n": 2,
    "num_heads": 2,
    "num_key_value_heads": 2,
    "num_query_heads": 4,
    "output_dim": 3,
    "output_shape": 4,
    "output_size": 2,
    "rate": 0.1,
    "scale": 2.0,
    "stddev": 0.1,
    "target_shape": (-1,),
    "pool_size": 2,
    "units": 3,
    "value_range": (0, 1),
    "width": 3,
    "factor": 0.2,
    "height_factor": 0.2,
    "width_factor": 0.2,
    "num_bins": 3,
}
OF_SEVERAL = ("Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract")
OWN_WAY = {
    "AdditiveAttention": lambda kind: model_of(lambda x: kind()([x, x]), 6, 3),
    "Attention": lambda kind: model_of(lambda x: kind(use_scale=True)([x, x]), 6, 3),
    "Bidirectional": lambda kind: model_of(kind(layers.GRU(3)), 6, 3),
    "CategoryEncoding": lambda kind: model_of(kind(num_tokens=9), 4, dtype="int32"),
    "Discretization": lambda kind: model_of(kind(bin_boundaries=[1.0, 2.0])),
    "Embedding": lambda kind: model_of(lambda x: layers.LSTM(3)(kind(9, 3, mask_zero=True)(x)), 6, dtype="int32"),
    "GRUCell": lambda kind: model_of(layers.RNN(kind(3)), 6, 3),
    "GroupNormalization": lambda kind: model_of(kind(groups=3), 4, 4, 3),
    "GroupedQueryAttention": lambda kind: model_of(lambda x: kind(4, 4, 2)(x, x), None, 8),
    "HashedCrossing": lambda kind: model_of(lambda x: kind(5)([x, x]), 1, dtype="int32"),
    "Hashing": lambda kind: model_of(kind(5), dtype="int32"),
    "InputLayer": lambda kind: model_of(layers.Identity()),
    "LSTMCell": lambda kind: model_of(layers.RNN(kind(3)), 6, 3),
    "Masking": lambda kind: model_of(lambda x: layers.LSTM(3)(kind()(x)), 6, 3),
    "MultiHeadAttention": lambda kind: model_of(lambda x: kind(2, 4)(x, x), None, 8),
    "Pipeline": lambda kind: model_of(kind([layers.Rescaling(2.0)])),
    "RNN": lambda kind: model_of(kind(layers.LSTMCell(3)), 6, 3),
    "RandomPosterization": lambda kind: model_of(kind(4), 4, 4, 3),
    "STFTSpectrogram": lambda kind: model_of(kind(frame_length=8, frame_step=4, fft_length=8), 32, 1),
    "SimpleRNNCell": lambda kind: model_of(layers.RNN(kind(3)), 6, 3),
    "SpectralNormalization": lambda kind: model_of(kind(layers.Dense(3))),
    "StackedRNNCells": lambda kind: model_of(layers.RNN(kind([layers.LSTMCell(3), layers.GRUCell(2)])), 6, 3),
    "TimeDistributed": lambda kind: model_of(kind(layers.Dense(3)), 6, 3),
}
NOT_IN_A_MODEL = {
    "CutMix": "takes pictures with their labels",
    "MixUp": "takes pictures with their labels",
    "MaxNumBoundingBoxes": "takes boxes",
    "Equalization": "Keras 3.15 makes no functional model with it",
}
NEEDS_TENSORFLOW = ("HashedCrossing", "Hashing")
LAYERS = {
    kind.__name__: kind
    for kind in vars(layers).values()
    if isinstance(kind, type) and issubclass(kind, keras.Layer) and kind.__name__ not in NOT_IN_A_MODEL
}


def model_with(kind):
    """Returns a small model with a layer, on the first kind of input that it takes."""
    if kind.__name__ in OWN_WAY:
        return OWN_WAY[kind.__name__](kind)
    needed = {
        name: REQUIRED[name]
        for name, parameter in inspect.signature(kind).parameters.items()
        if name in REQUIRED and parameter.default is inspect.Parameter.empty
    }
    errors = []
    for shape in SHAPES:
        try:
            layer = kind(**needed)
            model = model_of(lambda x, layer=layer: layer([x, x] if kind.__name__ in OF_SEVERAL else x), *shape)
            outputs_of(model, samples_for(model))
        except Exception as error:  # the layer takes inputs of another shape
            errors.append(error)
        else:
            return model
    raise errors[0]


@pytest.mark.one_backend
@pytest.mark.parametrize("name", sorted(set(LAYERS) - set(REFUSED_LAYERS)))
def test_layers_of_keras_are_opened(tmp_path, name):
    if name in NEEDS_TENSORFLOW and keras.backend.backend() != "tensorflow":
        pytest.skip("Keras has it on TensorFlow alone")
    assert_opened(model_with(LAYERS[name]), tmp_path)


def test_the_table_of_refused_layers_matches_the_installed_keras():
    assert set(REFUSED_LAYERS) <= set(vars(layers))
    assert all(reason and "\n" not in reason for reason in REFUSED_LAYERS.values())


def test_layers_with_code_or_files_are_refused_by_name():
    model = model_of(layers.Lambda(lambda x: 2 * x, name="doubled"))
    with pytest.raises(CourseError, match=r"a 'Lambda' of 'keras.layers' \(doubled\), and it contains code"):
        check_can_be_opened(model)
    if keras.backend.backend() == "tensorflow":
        table = layers.IntegerLookup(vocabulary=[1, 2], name="table")
        with pytest.raises(CourseError, match=r"\(table\), and it can read any file"):
            check_can_be_opened(model_of(table, dtype="int64"))


# --- Operations ------------------------------------------------------------------------------------------------

MODULES = operations_of_keras(["numpy", "core", "nn", "math", "linalg", "image", "einops"])
OPERATIONS = {name: module for module, names in MODULES.items() for name in names}


def square(x):
    """Returns positive definite matrices."""
    return ops.matmul(x, ops.transpose(x, (0, 2, 1))) + 9.0 * np.eye(3, dtype="float32")


def integers(x):
    return ops.cast(x, "int32")


ROWS, PICTURE = (3, 4), (6, 6, 3)
WAYS = {
    "Argpartition": (lambda x: ops.shape(ops.argpartition(x, 1))[1] * ops.mean(x), ROWS),
    "Array": (lambda x: ops.array(x), ROWS),
    "ArraySplit": (lambda x: ops.array_split(x, 2, axis=1), ROWS),
    "BatchNorm": (lambda x: ops.batch_normalization(x, np.ones(4, "f"), np.ones(4, "f"), axis=-1), ROWS),
    "BroadcastTo": (lambda x: ops.broadcast_to(ops.mean(x, axis=0), (2, 3, 4)), ROWS),
    "Cast": (lambda x: ops.cast(x, "float16"), ROWS),
    "CategoricalCrossentropy": (lambda x: ops.categorical_crossentropy(x, x, from_logits=True), ROWS),
    "Cholesky": (lambda x: ops.cholesky(square(x)), ROWS),
    "Clip": (lambda x: ops.clip(x, 1, 2), ROWS),
    "Concatenate": (lambda x: ops.concatenate([x, x], axis=1), ROWS),
    "Conv": (lambda x: ops.conv(x, np.ones((2, 2, 3, 4), "f")), PICTURE),
    "DepthToSpace": (lambda x: ops.depth_to_space(ops.concatenate([x] * 4, axis=-1), 2), PICTURE),
    "DepthwiseConv": (lambda x: ops.depthwise_conv(x, np.ones((2, 2, 3, 1), "f")), PICTURE),
    "Det": (lambda x: ops.det(square(x)), ROWS),
    "Diag": (lambda x: ops.diag(ops.mean(x, axis=(0, 1))), ROWS),
    "Diagflat": (lambda x: ops.diagflat(ops.mean(x, axis=(0, 1))), ROWS),
    "Digitize": (lambda x: ops.digitize(x, np.float32([1, 2])), ROWS),
    "DotProductAttention": (lambda x: ops.dot_product_attention(x, x, x), (5, 2, 4)),
    "Eigh": (lambda x: ops.eigh(square(x))[0], ROWS),
    "Einsum": (lambda x: ops.einsum("btd,de->bte", x, np.ones((4, 5), "f")), ROWS),
    "ExpandDims": (lambda x: ops.expand_dims(x, 1), ROWS),
    "ExtractPatches": (lambda x: ops.image.extract_patches(x, (2, 2)), PICTURE),
    "ExtractSequences": (lambda x: ops.extract_sequences(x, 2, 1), ROWS),
    "Full": (lambda x: ops.mean(x) * ops.add(x, 1.0), ROWS),
    "GetItem": (lambda x: x[..., None, 1:, ::2], ROWS),
    "Gcd": (lambda x: ops.gcd(integers(x), 2), ROWS),
    "HSVToRGB": (lambda x: ops.image.hsv_to_rgb(x / 4), PICTURE),
    "Hsplit": (lambda x: ops.hsplit(x, 3), ROWS),
    "Inv": (lambda x: ops.inv(square(x)), ROWS),
    "Lcm": (lambda x: ops.lcm(integers(x), 2), ROWS),
    "Logdet": (lambda x: ops.logdet(square(x)), ROWS),
    "Moments": (lambda x: ops.moments(x, axes=[1]), ROWS),
    "Moveaxis": (lambda x: ops.moveaxis(x, 1, 2), ROWS),
    "MultiHot": (lambda x: ops.multi_hot(integers(x), 5), (4,)),
    "OneHot": (lambda x: ops.one_hot(integers(x), 5), ROWS),
    "Pad": (lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 0))), ROWS),
    "PadImages": (lambda x: ops.image.pad_images(x, 1, 1, target_height=9, target_width=9), PICTURE),
    "CropImages": (lambda x: ops.image.crop_images(x, 1, 1, target_height=3, target_width=3), PICTURE),
    "Repeat": (lambda x: ops.repeat(x, 3, axis=1), ROWS),
    "Reshape": (lambda x: ops.reshape(x, (-1, 2, 6)), ROWS),
    "Resize": (lambda x: ops.image.resize(x, (3, 9)), PICTURE),
    "RGBToGrayscale": (lambda x: ops.image.rgb_to_grayscale(x), PICTURE),
    "RGBToHSV": (lambda x: ops.image.rgb_to_hsv(x / 4), PICTURE),
    "Roll": (lambda x: ops.roll(x, 1, axis=1), ROWS),
    "SVD": (lambda x: ops.svd(x)[1], ROWS),
    "SaturateCast": (lambda x: ops.saturate_cast(x, "uint8"), ROWS),
    "Select": (lambda x: ops.select([x > 1.0, x > 2.0], [x, -x], 0), ROWS),
    "Slice": (lambda x: ops.slice(x, (0, 1, 1), (1, 2, 2)), ROWS),
    "Solve": (lambda x: ops.solve(square(x), x), ROWS),
    "SolveTriangular": (lambda x: ops.solve_triangular(ops.cholesky(square(x)), x, lower=True), ROWS),
    "SpaceToDepth": (lambda x: ops.space_to_depth(x, 2), PICTURE),
    "SparseCategoricalCrossentropy": (
        lambda x: ops.sparse_categorical_crossentropy(
            integers(x[:, :, 0]), ops.concatenate([x, x], 2), from_logits=True
        ),
        ROWS,
    ),
    "Split": (lambda x: ops.split(x, 2, axis=2), ROWS),
    "Squeeze": (lambda x: ops.squeeze(ops.expand_dims(x, 1), 1), ROWS),
    "Stack": (lambda x: ops.stack([x, x], axis=1), ROWS),
    "Swapaxes": (lambda x: ops.swapaxes(x, 1, 2), ROWS),
    "Take": (lambda x: ops.take(x, [0, 2], axis=1), ROWS),
    "TakeAlongAxis": (lambda x: ops.take_along_axis(x, integers(x) % 3, axis=1), ROWS),
    "Tensordot": (lambda x: ops.tensordot(x, np.ones((4, 2), "f"), 1), ROWS),
    "Tile": (lambda x: ops.tile(x, (1, 2, 3)), ROWS),
    "TopK": (lambda x: ops.top_k(x, 2), ROWS),
    "Transpose": (lambda x: ops.transpose(x, (0, 2, 1)), ROWS),
    "Unstack": (lambda x: ops.unstack(x, 3, axis=1), ROWS),
    "Where": (lambda x: ops.where(x > 2.0, x, 0.0), ROWS),
    "Matmul": (lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))), ROWS),
}


def mean(x):
    """Returns numbers without the axis of samples, which some operations do not take, or misinterpret."""
    return ops.mean(x, axis=0)


ROW, CORNERS = (4,), np.float32([[0, 0], [5, 0], [0, 5], [5, 5]])
RARE_WAYS = {
    "AdaptiveAveragePool": (lambda x: ops.adaptive_average_pool(x, (2, 2)), PICTURE),
    "AdaptiveMaxPool": (lambda x: ops.adaptive_max_pool(x, (2, 2)), PICTURE),
    "AffineTransform": (lambda x: ops.image.affine_transform(mean(x), np.float32([1, 0, 1, 0, 1, 0, 0, 0])), PICTURE),
    "AveragePool": (lambda x: ops.average_pool(x, 2, (2, 2)), PICTURE),
    "BinaryCrossentropy": (lambda x: ops.binary_crossentropy(x / 5, x / 5), ROWS),
    "CholeskyInverse": (lambda x: ops.cholesky_inverse(ops.cholesky(mean(square(x)))), ROWS),
    "ConvTranspose": (
        lambda x: ops.conv_transpose(x, np.ones((2, 2, 4, 3), "f"), 2, data_format="channels_last"),
        PICTURE,
    ),
    "Corrcoef": (lambda x: ops.corrcoef(x), ROW),
    "Correlate": (lambda x: ops.correlate(mean(x), mean(x)), ROW),
    "Cross": (lambda x: ops.cross(x, x + 1, axis=-1), (4, 3)),
    "CTCLoss": (
        lambda x: ops.ctc_loss(
            integers(x[:, :1, 0]) % 3 + 1, x, integers(0 * x[:, 0, 0]) + 1, integers(0 * x[:, 0, 0]) + 3
        ),
        ROWS,
    ),
    "Dot": (lambda x: ops.dot(x, np.ones((4, 2), "f")), ROWS),
    "Dsplit": (lambda x: ops.dsplit(x, 2), ROWS),
    "Eig": (lambda x: ops.eig(square(x))[0], ROWS),
    "Histogram": (lambda x: ops.histogram(mean(x), 3, (0, 5)), ROW),
    "Imag": (lambda x: ops.imag(ops.cast(x, "complex64")), ROWS),
    "InTopK": (lambda x: ops.in_top_k(integers(x[:, 0]), x, 2), (5,)),
    "Kron": (lambda x: ops.kron(mean(x), np.ones((2, 2), "f")), (3, 3)),
    "LayerNorm": (lambda x: ops.layer_normalization(x, np.ones(4, "f"), np.ones(4, "f")), ROWS),
    "Lstsq": (lambda x: ops.lstsq(mean(square(x)), np.ones(3, "f")), ROWS),
    "LuFactor": (lambda x: ops.lu_factor(mean(square(x)))[0], ROWS),
    "MapCoordinates": (lambda x: ops.image.map_coordinates(mean(x), CORNERS.T / 2, order=1), (4, 4)),
    "MaxPool": (lambda x: ops.max_pool(x, 2, (2, 2)), PICTURE),
    "Meshgrid": (lambda x: ops.meshgrid(mean(x), mean(x)), ROW),
    "Nanpercentile": (lambda x: ops.nanpercentile(x, 30.0, axis=1), ROWS),
    "Nanquantile": (lambda x: ops.nanquantile(x, 0.3, axis=1), ROWS),
    "Norm": (lambda x: ops.norm(x), ROW),
    "PSNR": (lambda x: ops.psnr(x, x + 1, 5.0), PICTURE),
    "Percentile": (lambda x: ops.percentile(x, 30.0, axis=1), ROWS),
    "PerspectiveTransform": (lambda x: ops.image.perspective_transform(mean(x), CORNERS, CORNERS[::-1]), PICTURE),
    "Quantile": (lambda x: ops.quantile(x, 0.3), ROWS),
    "RMSNorm": (lambda x: ops.rms_normalization(x, np.ones(4, "f")), ROWS),
    "Rearrange": (lambda x: ops.rearrange(mean(x), "h w c -> (h w) c"), PICTURE),
    "STFT": (lambda x: ops.stft(x, 8, 4, 8)[0], (32,)),
    "Scatter": (lambda x: ops.scatter(np.int32([[0], [2], [3], [4]]), mean(x), (5,)), ROW),
    "ScatterUpdate": (lambda x: ops.scatter_update(x, [[0, 1], [1, 2]], np.float32([7, 8])), ROW),
    "SearchSorted": (lambda x: ops.searchsorted(ops.sort(mean(x)), np.float32([1, 2])), ROW),
    **{
        f"Segment{kind.title()}": (
            lambda x, kind=kind: getattr(ops, f"segment_{kind}")(mean(x), np.int32([0, 0, 1, 1]), num_segments=2),
            ROW,
        )
        for kind in ("max", "min", "prod", "sum")
    },
    "SeparableConv": (
        lambda x: ops.separable_conv(x, np.ones((2, 2, 3, 1), "f"), np.ones((1, 1, 3, 4), "f")),
        PICTURE,
    ),
    "SliceUpdate": (lambda x: ops.slice_update(x, (0, 1), np.zeros((1, 2), "f")), ROW),
    "Slogdet": (lambda x: ops.slogdet(square(x)), ROWS),
    "Threshold": (lambda x: ops.threshold(x, 2.0, 0.0), ROWS),
    "Unfold": (lambda x: ops.unfold(x, 2), (3, 6, 6)),
    "Fold": (lambda x: ops.fold(x, (3, 3), 2), (12, 4)),
    "UnravelIndex": (lambda x: ops.unravel_index(integers(x), (2, 3)), ROWS),
    "Vander": (lambda x: ops.vander(mean(x), 3), ROW),
    "Vdot": (lambda x: ops.vdot(mean(x), mean(x)), ROW),
    "ViewAsComplex": (lambda x: ops.view_as_complex(x), (3, 2)),
    "ViewAsReal": (lambda x: ops.view_as_real(ops.cast(x, "complex64")), ROWS),
    "Vsplit": (lambda x: ops.vsplit(mean(x), 2), (4, 3)),
}
UNTRIED = {
    ("ConvTranspose", "all"): "Keras 3.15 takes its padding for its output_padding",
    ("Histogram", "all"): "Keras 3.15 calls a function that no backend has",
    ("ViewAsComplex", "tensorflow"): "Keras 3.15 multiplies real numbers by a complex one, which TensorFlow refuses",
}
"""Operations that Keras runs nowhere, or not on a backend, and why."""
NEVER_OPENED = {
    ("AdaptiveAveragePool", "all"): "could not be deserialized",
    ("AdaptiveMaxPool", "all"): "could not be deserialized",
    ("AveragePool", "jax"): "can only concatenate tuple",
    ("MaxPool", "jax"): "can only concatenate tuple",
    ("Corrcoef", "tensorflow"): "Using a symbolic `tf.Tensor` as a Python `bool` is not allowed",
    ("Inner", "tensorflow"): "TensorFlow does not know the output shape of 'inner",
    ("IsIn", "tensorflow"): "Using a symbolic `tf.Tensor` as a Python `bool` is not allowed",
    ("Kron", "tensorflow"): "cannot be interpreted as an integer",
    ("Nanpercentile", "tensorflow"): "Dimension value must be integer",
    ("Nanquantile", "tensorflow"): "Dimension value must be integer",
}
"""Operations that Keras 3.15 runs once, and not from a file, or not within a graph of TensorFlow; so they are refused
before a training, by a message that has this in it."""


def candidates_with(name):
    """Yields functions for models with an operation: from the table, or on one input, two, or integers."""
    if way := {**RARE_WAYS, **WAYS}.get(name):
        build, shape = way
        yield lambda: model_of(build, *shape)
        return
    module = __import__(OPERATIONS[name], fromlist=[name])
    kind = getattr(module, name)
    for prepare in (lambda x: x, lambda x: integers(x), lambda x: x > 1.0):
        yield lambda prepare=prepare: model_of(lambda x: kind()(prepare(x)), *ROWS)
        yield lambda prepare=prepare: model_of(lambda x: kind()(prepare(x), prepare(x)), *ROWS)
    yield lambda: model_of(lambda x: kind()([x, x]), *ROWS)
    yield lambda: model_of(lambda x: kind()(x), *PICTURE)


def model_with_operation(name):
    for build in candidates_with(name):
        try:
            model = build()
            outputs_of(model, samples_for(model))
        except Exception:  # the operation takes other inputs
            continue
        return model
    return None


def test_each_operation_of_keras_is_in_one_of_the_two_tables():
    """Before adding an operation to a table, check whether it can read files, run code or make giant outputs."""
    allowed = {name for names in ALLOWED_OPERATIONS.values() for name in names}
    assert not allowed & set(REFUSED_OPERATIONS)
    assert set(OPERATIONS) == allowed | set(REFUSED_OPERATIONS)
    assert {module: ALLOWED_OPERATIONS[module] for module in MODULES} == {
        module: names - set(REFUSED_OPERATIONS) for module, names in MODULES.items()
    }


USUAL = ("Add", "Any", "Equal", "Exp", "Log", "Maximum", "Mean", "NotEqual", "Power", "Subtract", "Sum", "TrueDivide")


@pytest.mark.one_backend
@pytest.mark.parametrize("name", [*USUAL, *sorted(WAYS)])
def test_common_operations_of_keras_are_opened(tmp_path, name):
    assert_opened(model_with_operation(name), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - set(REFUSED_OPERATIONS)))
def test_operations_of_keras_are_opened(tmp_path, name):
    untried, never = (
        table.get((name, "all"), table.get((name, keras.backend.backend()))) for table in (UNTRIED, NEVER_OPENED)
    )
    model = model_with_operation(name)
    assert (model is None) == (untried is not None)
    if model is None:
        pytest.skip(untried)
    if never is not None:
        with pytest.raises(CourseError, match=f"cannot be opened again once it is saved: .*{never}"):
            check_can_be_opened(model)
        return
    assert_opened(model, tmp_path)


def test_operations_with_code_are_refused_by_name():
    model = model_of(lambda x: ops.vectorized_map(lambda row: 2 * row, x))
    with pytest.raises(CourseError, match="cannot be opened again once it is saved"):
        check_can_be_opened(model)
    model = model_of(lambda x: ops.rot90(x), 6, 6)
    with pytest.raises(CourseError, match=r"a 'Rot90' of 'keras.src.ops.numpy' .*; use transpose and flip"):
        check_can_be_opened(model)


# --- Whole models ----------------------------------------------------------------------------------------------


def two_input_model():
    one, two = keras.Input((3,), name="one"), keras.Input((3,), name="two")
    dense = layers.Dense(3)
    return keras.Model([one, two], [dense(one), dense(two) - one])


def shared_model():
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(6, activation="tanh"), layers.Dense(6)])
    return model_of(lambda x: inner(inner(x)) + inner(x))


def shared_layer():
    dense = layers.Dense(6)
    inner = model_of(dense)
    return model_of(lambda x: layers.Add()([dense(x), inner(x)]))


def embedding_from_array():
    start = keras.initializers.Constant(np.arange(27.0).reshape(9, 3))
    return model_of(
        lambda x: layers.Flatten()(layers.Embedding(9, 3, embeddings_initializer=start)(x)), 4, dtype="int32"
    )


WHOLE = {
    "two inputs and outputs": two_input_model,
    "shared model": shared_model,
    "start from an array": embedding_from_array,
    "array in the graph": lambda: model_of(lambda x: (x - np.arange(6, dtype="float32")) / np.float32(2)),
    "none of a known length": lambda: model_of(
        lambda x: layers.EinsumDense("btd,de->bte", output_shape=(None, 3))(layers.MultiHeadAttention(2, 4)(x, x)),
        None,
        8,
    ),
    "attention mask": lambda: model_of(
        lambda x: layers.MultiHeadAttention(2, 4)(*[layers.Embedding(9, 8, mask_zero=True)(x)] * 2), 5, dtype="int32"
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_models_are_opened(tmp_path, name):
    model = WHOLE[name]()
    before = model.get_weights()
    assert_opened(model, tmp_path)
    for array, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(array, expected)


def test_models_that_keras_cannot_open_are_refused():
    with pytest.raises(CourseError, match=r"cannot be opened again once it is saved: .*not connected to `inputs`"):
        check_can_be_opened(shared_layer())
    dense = layers.Dense(3)  # Keras makes two of it
    model = model_of(lambda x: layers.TimeDistributed(dense)(x) + layers.TimeDistributed(dense)(x), 4, 3)
    with pytest.raises(CourseError, match=r"it has 2 weights, and a file would ask for 4; use a layer that is shared"):
        check_can_be_opened(model)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_layers_in_16_bits_are_opened(tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = model_of(lambda x: layers.Dense(3, dtype="float32")(layers.Dense(3)(x)))
    finally:
        keras.config.set_dtype_policy("float32")
    assert_opened(model, tmp_path)


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


@keras.saving.register_keras_serializable("tests")
class Unregistered(layers.Layer):
    def call(self, inputs):
        return inputs


def test_user_defined_classes_are_refused_with_a_remedy():
    with pytest.raises(CourseError, match=r"it is a Subclassed, and no file .*; build it with the functional API; or"):
        check_can_be_opened(Subclassed())
    with pytest.raises(CourseError, match=r"'Subclassed' of .*by model.save_weights"):
        check_can_be_opened(model_of(Subclassed()))
    with pytest.raises(CourseError, match=r"'Unregistered' of .* \(mine\); only layers of Keras and of this course"):
        check_can_be_opened(model_of(Unregistered(name="mine")))


def test_a_quantized_model_is_refused():
    model = model_of(lambda x: layers.Dense(3, name="small")(x))
    model.get_layer("small").quantize("int8")
    with pytest.raises(CourseError, match="its layer 'small' is quantized, which is not opened; save it before"):
        check_can_be_opened(model)


def test_a_model_with_a_giant_output_is_refused_before_training():
    model = model_of(lambda x: ops.mean(ops.repeat(x, 10**9, axis=1), axis=1))
    with pytest.raises(CourseError, match=r"its layer 'repeat\w*' makes 6,000,000,000 numbers"):
        check_can_be_opened(model)


def model_around(net):
    return model_of(lambda x: layers.Dense(2)(net(x)))


def dense_with_unused_bias():
    dense = layers.Dense(6)
    model = model_of(dense)
    dense.use_bias = False
    return model


def test_is_plain_is_true_only_for_models_of_common_layers():
    plain = [
        keras.Sequential([keras.Input((6,)), layers.Dense(6), layers.BatchNormalization(scale=False)]),
        model_of(lambda x: layers.Add()([layers.Dense(6)(x), x])),
        model_around(model_of(layers.Dense(6))),
        model_around(Backbone(model_of(layers.Dense(6)))),
    ]
    assert all(map(is_plain, plain))
    shared = layers.Dense(6)
    others = [
        shared_model(),
        shared_layer(),
        model_around(keras.Sequential([shared, shared], name="twice")),
        model_around(Backbone(shared_model())),
        dense_with_unused_bias(),
        model_of(lambda x: layers.Add()([x, np.ones((1, 6), "float32")])),
        model_of(lambda x: ops.add(x, x)),
        model_of(layers.Dense(6, activation=layers.PReLU())),
        model_of(layers.TimeDistributed(layers.Dense(3)), 4, 3),
        keras.Sequential([layers.Dense(6)]),
    ]
    assert not any(map(is_plain, others))


def test_the_check_has_no_side_effects(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = model_of(lambda x: layers.Dropout(0.5)(layers.Dense(3)(x)) - 1.0)
    model.compile("adam", "mse")
    optimizer, before, state = model.optimizer, keras.layers.Dense(1).name, random.getstate()
    weights = model.get_weights()
    check_can_be_opened(model)
    assert random.getstate() == state
    assert int(keras.layers.Dense(1).name.rpartition("_")[2]) == int(before.rpartition("_")[2]) + 1
    assert (model.optimizer, model.compiled) == (optimizer, True)
    for array, expected in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(array, expected)
    assert not list(tmp_path.iterdir())
