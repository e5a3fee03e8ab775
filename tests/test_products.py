"""Convolutions and pooling by matrix products, against those of the frameworks."""

import keras
import numpy as np
import pytest
from keras import ops
from keras.src.backend import nn

from keras_course import _backend
from keras_course._backend import products
from keras_course.models import cnn_classifier
from keras_course.training import fit

SIZES_AND_STRIDES = [(2, 2), (3, 1), (3, 2), (2, 3), (4, 2)]


def random_array(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype("float32")


def result_and_gradients(function, *arguments, compiled):
    """Returns a result, and the gradients of its sum with a different weight for each element."""

    def loss(tensors):
        result = function(*tensors)
        weights = np.sin(np.arange(np.prod(result.shape))).reshape(result.shape).astype("float32")
        return ops.sum(result * ops.convert_to_tensor(weights)), [result]

    if not compiled:
        (_, results), gradients = _backend.value_and_grad(loss)([ops.convert_to_tensor(one) for one in arguments])
        return [ops.convert_to_numpy(one) for one in (*results, *gradients)]
    shapes = [tuple(function(*map(ops.convert_to_tensor, arguments)).shape), *(one.shape for one in arguments)]
    names = [str(number) for number in range(len(shapes))]

    def step(batch):
        (value, results), gradients = _backend.value_and_grad(loss)(list(batch))
        return value, dict(zip(names, (*results, *gradients), strict=True))

    loop = _backend.training_loop([_backend.Update(step, logs=dict(zip(names, shapes, strict=True)))])
    loop.load()
    row = np.asarray(loop.run(tuple(argument[None] for argument in arguments), 1))[0, 1:]
    ends = np.cumsum([np.prod(shape) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(row, ends[:-1]), shapes, strict=True)]


def assert_same(ours, native, *arguments):
    for found, expected in zip(
        result_and_gradients(ours, *arguments, compiled=True),
        result_and_gradients(native, *arguments, compiled=False),
        strict=True,
    ):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=2e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("padding", ["valid", "same"])
class TestAgainstTheFramework:
    @pytest.mark.parametrize(("size", "strides", "dilation"), [*((*both, 1) for both in SIZES_AND_STRIDES), (3, 1, 2)])
    def test_convolution(self, size, strides, dilation, padding):
        x, kernel = random_array(2, 7, 8, 3), random_array(size, size, 3, 4)
        assert_same(
            lambda x, kernel: products.conv(x, kernel, strides, padding, dilation),
            lambda x, kernel: nn.conv(x, kernel, strides, padding, "channels_last", dilation),
            x,
            kernel,
        )

    @pytest.mark.parametrize(("size", "strides", "dilation"), [*((*both, 1) for both in SIZES_AND_STRIDES), (3, 1, 2)])
    @pytest.mark.parametrize("multiplier", [1, 2])
    def test_depthwise_convolution(self, multiplier, size, strides, dilation, padding):
        assert_same(
            lambda x, kernel: products.depthwise_conv(x, kernel, strides, padding, dilation),
            lambda x, kernel: nn.depthwise_conv(x, kernel, strides, padding, "channels_last", dilation),
            random_array(2, 7, 8, 3),
            random_array(size, size, 3, multiplier),
        )

    @pytest.mark.parametrize(("size", "strides"), SIZES_AND_STRIDES)
    def test_transposed_convolution(self, size, strides, padding):
        assert_same(
            lambda x, kernel: products.conv_transpose(x, kernel, strides, padding),
            lambda x, kernel: nn.conv_transpose(x, kernel, strides, padding, None, "channels_last", 1),
            random_array(2, 7, 8, 3),
            random_array(size, size, 4, 3),
        )

    @pytest.mark.parametrize(("size", "strides"), SIZES_AND_STRIDES)
    def test_max_pooling(self, size, strides, padding):
        assert_same(
            lambda x: products.max_pool(x, size, strides, padding),
            lambda x: nn.max_pool(x, size, strides, padding, "channels_last"),
            random_array(2, 7, 8, 3),
        )


@pytest.mark.parametrize("shape", [(9,), (5, 6, 5)])
def test_one_and_three_dimensions(shape):
    x, kernel = random_array(2, *shape, 2), random_array(*[3] * len(shape), 2, 3)
    assert_same(
        lambda x, kernel: products.conv(x, kernel, 2, "same"),
        lambda x, kernel: nn.conv(x, kernel, 2, "same", "channels_last", 1),
        x,
        kernel,
    )


def test_separable_convolution():
    depthwise, pointwise = random_array(3, 3, 3, 2), random_array(1, 1, 6, 4)
    assert_same(
        lambda *tensors: products.separable_conv(*tensors, 2, "same"),
        lambda *tensors: nn.separable_conv(*tensors, 2, "same", "channels_last", 1),
        random_array(2, 7, 8, 3),
        depthwise,
        pointwise,
    )


def test_convolution_in_several_parts(monkeypatch):
    monkeypatch.setattr(products, "_LARGEST_PATCHES", 100)
    assert_same(
        lambda x, kernel: products.conv(x, kernel, 2, "same"),
        lambda x, kernel: nn.conv(x, kernel, 2, "same", "channels_last", 1),
        random_array(2, 7, 8, 3),
        random_array(3, 3, 3, 4),
    )


def test_the_first_of_equal_pixels_gets_the_gradient():
    pictures = np.ones((1, 2, 4, 1), "float32")
    _, gradient = result_and_gradients(lambda x: products.max_pool(x, 2), pictures, compiled=True)
    second_weight = np.sin(np.float32(1))  # the first weight is sin 0
    np.testing.assert_allclose(gradient[0, :, :, 0], [[0, 0, second_weight, 0], [0, 0, 0, 0]], rtol=1e-6)


@pytest.fixture
def calls(monkeypatch):
    """The names of our functions in the order of their calls."""
    made = []
    for name, ours in products._OURS.items():

        def recorded(*arguments, _name=name, _ours=ours, **settings):
            made.append(_name)
            return _ours(*arguments, **settings)

        recorded.__signature__ = products.inspect.signature(ours)
        monkeypatch.setitem(products._OURS, name, recorded)
    return made


class TestInsteadOfConvolutions:
    def test_layers_use_matrix_products(self, calls):
        x = random_array(2, 8, 8, 3)
        layers = [
            keras.layers.Conv2D(4, 3, strides=2, padding="same"),
            keras.layers.DepthwiseConv2D(3, depth_multiplier=2),
            keras.layers.Conv2DTranspose(5, 3, strides=2),
            keras.layers.MaxPooling2D(2),
            keras.layers.SeparableConv2D(6, 3),
        ]
        expected = [ops.convert_to_numpy(layer(x)) for layer in layers]
        assert calls == []
        with products.convolutions_replaced(wanted=True):
            found = [ops.convert_to_numpy(layer(x)) for layer in layers]
        assert [name for name in calls if name != "conv" or calls.index(name) == 0] == [
            "conv",
            "depthwise_conv",
            "conv_transpose",
            "max_pool",
            "separable_conv",
        ]
        for ours, native in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, native, atol=2e-6)

    def test_convolutions_are_not_replaced_unless_wanted(self, calls):
        x, layer = random_array(2, 8, 8, 3), keras.layers.Conv2D(4, 3)
        with products.convolutions_replaced(wanted=False):
            layer(x)
        with pytest.raises(KeyError), products.convolutions_replaced(wanted=True):
            raise KeyError
        layer(x)
        assert calls == []

    def test_other_convolutions_are_left_to_the_framework(self, calls):
        x = random_array(2, 8, 8, 4)
        with products.convolutions_replaced(wanted=True):
            padded = keras.layers.Conv2DTranspose(3, 3, strides=2, output_padding=1)(x)
            if keras.backend.backend() != "tensorflow":  # it has neither of these on every CPU
                groups = keras.layers.Conv2D(4, 3, groups=2)(x)
                dilated = keras.layers.Conv2DTranspose(3, 3, dilation_rate=2)(x)
                assert groups.shape == (2, 6, 6, 4)
                assert dilated.shape == (2, 12, 12, 3)
        assert calls == []
        assert padded.shape == (2, 18, 18, 3)


def test_a_network_trains_as_in_keras():
    """Compares ten steps of ``fit``, with matrix products, with Keras' fit on the convolutions of the framework."""
    x = np.random.default_rng(0).integers(0, 256, (40, 12, 12, 1), dtype="uint8")
    y = np.arange(40, dtype="int32") % 3
    settings = {"input_shape": (12, 12, 1), "filters": (4, 6), "dense": 8, "num_classes": 3}
    settings |= {"dropout": 0.0, "dense_dropout": 0.0}
    net, reference = cnn_classifier(**settings), cnn_classifier(**settings)
    fit(net, (x, y), epochs=10, batch_size=40, optimizer=keras.optimizers.SGD(1e-3), progress=False)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    reference.compile(keras.optimizers.SGD(1e-3), loss)
    reference.fit(x, y, epochs=10, batch_size=40, shuffle=False, verbose=0)
    for found, expected in zip(net.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-5)
