"""``explain``: convolutions against Keras and SciPy, and Grad-CAM against gradients derived by hand."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from scipy.signal import correlate2d

from keras_course import explain
from keras_course.errors import CourseError
from keras_course.models import cnn_classifier, dense_classifier

DRAW = np.random.default_rng(0)
PICTURE = DRAW.uniform(0, 255, (9, 8, 2))
ONE_BLOCK = {
    "input_shape": (9, 8, 2),
    "filters": (4,),
    "dense": 6,
    "num_classes": 3,
    "dropout": 0.0,
    "dense_dropout": 0.0,
}


def as_numpy(tensor):
    return ops.convert_to_numpy(tensor)


def one_block(seed=1, **arguments):
    """Returns a network with large feature maps and positive and negative evidence for each class."""
    model = cnn_classifier(batch_normalization=False, seed=seed, **ONE_BLOCK | arguments)
    model.set_weights([weight + 0.05 for weight in model.get_weights()])
    return model


# --- Convolution and pooling ------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(3, 3), (1, 1), (2, 4), (5, 2)])
def test_convolve_equals_keras(size, stride, padding):
    kernel = np.random.default_rng(0).normal(size=(*size, 2, 5))
    expected = as_numpy(ops.conv(PICTURE[None].astype("float32"), kernel.astype("float32"), stride, padding))[0]
    found = explain.convolve(PICTURE, kernel, stride=stride, padding=padding)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    assert found.shape == expected.shape


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_convolve_of_a_gray_picture_equals_scipy(padding):
    kernel = np.random.default_rng(0).normal(size=(3, 5))
    found = explain.convolve(PICTURE[..., 0], kernel, padding=padding)
    np.testing.assert_allclose(found, correlate2d(PICTURE[..., 0], kernel, mode=padding), atol=1e-10)


def test_a_convolution_by_hand():
    picture = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert explain.convolve(picture, [[1, 0], [0, -2]]).tolist() == [[1 - 10, 2 - 12], [4 - 16, 5 - 18]]
    assert explain.convolve(picture, [[1, 1], [1, 1]], stride=2, padding="same").tolist() == [[12, 9], [15, 9]]


def average_pool(maps, size, stride, padding):
    """Averages by Keras' convolution, because its average_pool differs between backends."""
    ones = np.tile(np.eye(maps.shape[-1], dtype="float32"), (size, size, 1, 1))
    sums, counts = (ops.conv(x, ones, stride, padding) for x in (maps, np.ones_like(maps)))
    return sums / counts


@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("size", "stride"), [(2, None), (3, None), (3, 2), (2, 3), (2, 1)])
def test_pool_equals_keras(size, stride, padding, kind):
    operation = {"max": ops.max_pool, "average": average_pool}[kind]
    maps = PICTURE - 300  # negative numbers, so that zero padding would be visible
    expected = as_numpy(operation(maps[None].astype("float32"), size, stride or size, padding))[0]
    found = explain.pool(maps, size=size, stride=stride, padding=padding, kind=kind)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    alone = explain.pool(maps[..., 1], size=size, stride=stride, padding=padding, kind=kind)
    np.testing.assert_allclose(alone, found[..., 1], rtol=1e-12)


def test_the_example_kernels_have_the_effect_of_their_names():
    plain = np.full((5, 5), 7.0)
    for name, answer in {"blur": 7, "sharpen": 7, "vertical edges": 0, "horizontal edges": 0, "outline": 0}.items():
        np.testing.assert_allclose(explain.convolve(plain, explain.KERNELS[name]), np.full((3, 3), answer))
    half = np.tile([0.0, 0.0, 0.0, 8.0, 8.0, 8.0], (6, 1))  # brightness increases to the right
    assert explain.convolve(half, explain.KERNELS["vertical edges"]).tolist() == [[0, 32, 32, 0]] * 4
    assert not explain.convolve(half, explain.KERNELS["horizontal edges"]).any()
    np.testing.assert_allclose(explain.convolve(half.T, explain.KERNELS["horizontal edges"])[:, 0], [0, 32, 32, 0])
    assert explain.convolve(half, explain.KERNELS["blur"])[0].tolist() == [0, 2, 6, 8]
    assert explain.convolve(half, explain.KERNELS["sharpen"])[0].tolist() == [0, -8, 16, 8]
    with pytest.raises(ValueError, match="read-only"):
        explain.KERNELS["blur"][0, 0] = 1


# --- Kernels and feature maps -------------------------------------------------------------------------------------


def wrapped(model):
    """Returns the same network as part of others, after an augmentation that is identity at inference."""
    augmentation = keras.Sequential(
        [keras.Input(model.input_shape[1:]), layers.RandomRotation(0.3), layers.RandomFlip()], name="augmentation"
    )
    inputs = keras.Input(model.input_shape[1:])
    functional = keras.Model(inputs, model(augmentation(inputs)))
    sequential = keras.Sequential([keras.Input(model.input_shape[1:]), augmentation, model])
    return {
        "itself": model,
        "functional": functional,
        "sequential": sequential,
        "twice": keras.Sequential([keras.Input(model.input_shape[1:]), functional]),
    }


def test_kernels_returns_a_copy_of_the_weights_of_nested_layers():
    model = one_block()
    for outer in wrapped(model).values():
        found = explain.kernels(outer, "block1_conv")
        assert (found.shape, found.dtype) == ((3, 3, 2, 4), np.float32)
        np.testing.assert_array_equal(found, model.get_weights()[0])
        found[:] = 0
    assert model.get_weights()[0].all()


@pytest.mark.parametrize("name", ["itself", "functional", "sequential", "twice"])
def test_feature_maps_equal_the_formulas(name):
    model = one_block()
    outer = wrapped(model)[name]
    kernel, bias = (weight.astype("float64") for weight in model.get_weights()[:2])
    convolved = explain.convolve(PICTURE / 255, kernel, padding="same") + bias
    found = explain.feature_maps(outer, PICTURE, "block1_conv")
    assert (found.shape, found.dtype) == ((9, 8, 4), np.float32)
    np.testing.assert_allclose(found, convolved, atol=1e-5)
    pooled = explain.pool(np.maximum(convolved, 0))
    np.testing.assert_allclose(explain.feature_maps(outer, PICTURE, "block1_pool"), pooled, atol=1e-5)


def test_explain_does_not_change_the_model():
    model = one_block()
    before = as_numpy(model(PICTURE[None], training=False))
    explain.feature_maps(model, PICTURE, "block1_relu")
    explain.grad_cam(model, PICTURE)
    with pytest.raises(CourseError):
        explain.feature_maps(model, PICTURE, "flatten")
    for layer in model.layers:
        assert "call" not in vars(layer)
    np.testing.assert_array_equal(as_numpy(model(PICTURE[None], training=False)), before)


# --- Grad-CAM -----------------------------------------------------------------------------------------------------


def grad_cam_in_numpy(model, label, picture=PICTURE):
    """Computes Grad-CAM of the pooled maps: the gradient passes two dense layers with a ReLU between them."""
    kernel, bias, first, first_bias, second, _ = (weight.astype("float64") for weight in model.get_weights())
    maps = explain.pool(np.maximum(explain.convolve(picture / 255, kernel, padding="same") + bias, 0))
    hidden = maps.ravel() @ first + first_bias
    gradient = (first @ ((hidden > 0) * second[:, label])).reshape(maps.shape)
    return np.maximum((maps * gradient.mean(axis=(0, 1))).sum(axis=-1), 0)


def enlarged(heat, size):
    """Resizes bilinearly by Keras, and divides by the maximum."""
    heat = as_numpy(ops.image.resize(heat[None, ..., None].astype("float32"), size))[0, ..., 0]
    return heat / heat.max()


@pytest.mark.parametrize("name", ["itself", "functional", "sequential", "twice"])
@pytest.mark.parametrize("label", [0, 1, 2])
def test_grad_cam_equals_the_formulas(label, name):
    model = one_block(seed=11)
    expected = grad_cam_in_numpy(model, label)
    assert expected.max() > 0.001
    found = explain.grad_cam(wrapped(model)[name], PICTURE, label=label, layer="block1_pool")
    assert (found.shape, found.dtype) == ((9, 8), np.float64)
    np.testing.assert_allclose(found, enlarged(expected, (9, 8)), atol=1e-5)
    assert (found.min() >= 0, found.max()) == (True, 1.0)


def test_grad_cam_uses_the_predicted_class_without_a_label():
    model = one_block(seed=11)
    answer = int(as_numpy(model(PICTURE[None], training=False)).argmax())
    others = [label for label in range(3) if label != answer]
    found = explain.grad_cam(model, PICTURE)
    np.testing.assert_array_equal(found, explain.grad_cam(model, PICTURE, label=answer))
    assert all(np.abs(found - explain.grad_cam(model, PICTURE, label=label)).max() > 0.01 for label in others)


def test_grad_cam_is_0_for_a_class_without_positive_evidence():
    """With global average pooling and no hidden layer, a class with negative weights has no positive evidence."""
    inputs = keras.Input((9, 8, 2))
    x = layers.Conv2D(3, 3, activation="relu", name="conv")(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="logits")(layers.GlobalAveragePooling2D()(x)))
    kernel = np.random.default_rng(0).uniform(0, 1, (3, 3, 2, 3)).astype("float32")
    head = np.array([[1, -1], [2, -1], [3, -1]], "float32")
    model.set_weights([kernel, np.zeros(3, "float32"), head, np.zeros(2, "float32")])
    assert not explain.grad_cam(model, PICTURE, label=1).any()
    class_activation = explain.convolve(PICTURE, kernel) @ head[:, 0].astype("float64")
    np.testing.assert_allclose(explain.grad_cam(model, PICTURE), enlarged(class_activation, (9, 8)), atol=1e-4)


def test_the_default_layer_is_the_activation_after_the_last_convolution():
    model = cnn_classifier(input_shape=(16, 16, 1), num_classes=4, filters=(3, 5), dense=7, dropout=0.0)
    model.set_weights([np.abs(weight) + 0.02 for weight in model.get_weights()])
    picture = np.random.default_rng(0).uniform(0, 255, (16, 16, 1))
    found = explain.grad_cam(model, picture, label=3)
    np.testing.assert_array_equal(found, explain.grad_cam(model, picture, label=3, layer="block2_relu"))
    assert np.abs(found - explain.grad_cam(model, picture, label=3, layer="block1_relu")).max() > 0.01


def test_grad_cam_is_hot_at_the_decisive_spot():
    """The weights are set by hand: one identity filter, and a class that is its maximum."""
    inputs = keras.Input((12, 12, 1))
    x = layers.Conv2D(1, 1, use_bias=False, name="conv")(inputs)
    model = keras.Model(inputs, layers.Dense(2, use_bias=False)(layers.GlobalMaxPooling2D()(x)))
    model.set_weights([np.ones((1, 1, 1, 1), "float32"), np.array([[-1.0, 1.0]], "float32")])
    picture = np.zeros((12, 12, 1))
    picture[3:5, 7:9] = 200
    heat = explain.grad_cam(model, picture)
    np.testing.assert_allclose(heat, picture[..., 0] / 200, atol=1e-6)


# --- Bad input ----------------------------------------------------------------------------------------------------


def repeated():
    shared = layers.Conv2D(2, 3, padding="same", name="shared")
    inputs = keras.Input((9, 8, 2))
    x = layers.Flatten(name="flatten")(shared(shared(inputs)))
    return keras.Model(inputs, layers.Dense(2)(x))


def no_logits():
    inputs = keras.Input((9, 8, 2))
    return keras.Model(inputs, layers.Conv2D(2, 3)(inputs), name="maps")


@pytest.mark.parametrize(
    ("look", "message"),
    [
        (lambda: explain.convolve(np.ones(3), np.ones(2)), r"image has shape \(3,\) and kernel \(2,\); give"),
        (lambda: explain.convolve(PICTURE, np.ones((3, 3))), r"shape \(9, 8, 2\) and kernel \(3, 3\)"),
        (lambda: explain.convolve(PICTURE, np.ones((3, 3, 1, 4))), r"kernel \(3, 3, 1, 4\); give"),
        (lambda: explain.convolve(np.ones((2, 9)), np.ones((3, 3))), "image has 2 × 9 pixels, fewer than the 3 × 3"),
        (lambda: explain.convolve(np.ones((5, 5)), np.ones((3, 3)), stride=0), "stride is 0; give"),
        (lambda: explain.convolve(np.ones((5, 5)), np.ones((3, 3)), padding="full"), "padding is 'full'; give one of"),
        (lambda: explain.pool(np.ones(4)), r"image has shape \(4,\); give"),
        (lambda: explain.pool(np.ones((1, 4))), "image has 1 × 4 pixels, fewer than the 2 × 2"),
        (lambda: explain.pool(np.ones((4, 4)), size=0), "size is 0; give"),
        (lambda: explain.pool(np.ones((4, 4)), stride=-1), "stride is -1; give"),
        (lambda: explain.pool(np.ones((4, 4)), kind="min"), "kind is 'min'; give max or average"),
        (
            lambda: explain.kernels(one_block(), "conv9"),
            "layer is 'conv9'; give one of pixels, block1_conv, block1_relu",
        ),
        (lambda: explain.kernels(one_block(), "dense"), "layer 'dense' has no kernels .* give one of block1_conv$"),
        (
            lambda: explain.feature_maps(one_block(), PICTURE[..., 0], "block1_conv"),
            r"image has samples of shape \(9, 8\)",
        ),
        (
            lambda: explain.feature_maps(one_block(), PICTURE, "dense"),
            r"layer 'dense' gives shape \(6,\), which is not a map; give a convolution",
        ),
        (lambda: explain.feature_maps(repeated(), PICTURE, "shared"), "layer 'shared' runs 2 times"),
        (lambda: explain.grad_cam(one_block(), PICTURE, label=3), "label is 3; give a class number from 0 to 2"),
        (lambda: explain.grad_cam(one_block(), PICTURE, label=-1), "label is -1; give"),
        (lambda: explain.grad_cam(one_block(), PICTURE * np.nan), "image has a sample that is nan"),
        (
            lambda: explain.grad_cam(keras.Sequential([layers.Dense(2)], name="unbuilt"), PICTURE),
            "model 'unbuilt' has no input shape; build it from a keras.Input",
        ),
        (lambda: explain.grad_cam(no_logits(), PICTURE), r"model 'maps' gives shape \(7, 6, 2\) a picture; give"),
        (
            lambda: explain.grad_cam(dense_classifier(input_shape=(9, 8, 2), name="flat"), PICTURE),
            "model 'flat' has no convolution over pictures; give a model with one",
        ),
    ],
)
def test_error_names_the_bad_input(look, message):
    with pytest.raises(CourseError, match=message):
        look()
