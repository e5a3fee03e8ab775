import keras
import numpy as np
import pytest

from keras_course.deployment.model_files import load_keras_model
from keras_course.errors import CourseError
from keras_course.models import efficientnet_lite
from keras_course.models.efficientnet_lite import SIZES
from keras_course.training import predict_logits

SMALL = {"input_shape": (32, 32, 3), "num_classes": 5}


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("size", "pixels", "trainable", "filters", "blocks"),
    [
        # the authors' table rounds the parameters to 4.7, 5.4, 6.1, 8.2 and 13.0 million
        ("lite0", 224, 4_652_008, (16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1)),
        ("lite1", 240, 5_416_680, (16, 24, 40, 80, 112, 192, 320), (1, 3, 3, 4, 4, 5, 1)),
        ("lite2", 260, 6_092_072, (16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1)),
        ("lite3", 280, 8_197_096, (24, 32, 48, 96, 136, 232, 384), (1, 3, 3, 5, 5, 6, 1)),
        ("lite4", 300, 13_006_568, (24, 32, 56, 112, 160, 272, 448), (1, 4, 4, 6, 6, 8, 1)),
    ],
)
def test_sizes_equal_those_of_the_authors(size, pixels, trainable, filters, blocks):
    model = efficientnet_lite(size)
    assert model.input_shape == (None, pixels, pixels, 3)
    assert model.output_shape == (None, 1000)
    assert sum(np.prod(variable.shape) for variable in model.trainable_variables) == trainable
    names = [layer.name for layer in model.layers]
    for stage, (count, blocks_there) in enumerate(zip(filters, blocks, strict=True), start=1):
        found = [name for name in names if name.startswith(f"block{stage}") and name.endswith("_project_conv")]
        assert [model.get_layer(name).filters for name in found] == [count] * blocks_there
    assert model.get_layer("head_conv").filters == 1280
    assert model.get_layer("stem_conv").filters == 32


def test_the_model_scales_pixels():
    layer = efficientnet_lite(**SMALL).get_layer("pixels")
    scaled = keras.ops.convert_to_numpy(layer(np.array([[[[0, 127, 255]]]], "uint8")))
    np.testing.assert_allclose(scaled.ravel(), [-127 / 128, 0, 1], atol=1e-6)


def test_blocks_have_a_skip_connection_where_shapes_match():
    names = {layer.name for layer in efficientnet_lite(**SMALL).layers}
    added = {name.removesuffix("_add") for name in names if name.endswith("_add")}
    # the first block of a stage changes the number of filters; the very first block has 32 filters before and 16 after
    assert added == {"block2b", "block3b", "block4b", "block4c", "block5b", "block5c", "block6b", "block6c", "block6d"}


def test_drop_rates_increase_with_depth():
    model = efficientnet_lite(stochastic_depth=0.32, **SMALL)
    rates = [layer.rate for layer in model.layers if layer.name.endswith("_drop")]
    # blocks are numbered from 0 to 15
    np.testing.assert_allclose(rates, [0.02 * number for number in (2, 4, 6, 7, 9, 10, 12, 13, 14)])


def test_stochastic_depth_drops_whole_pictures():
    layer = efficientnet_lite(stochastic_depth=0.9, **SMALL).get_layer("block6d_drop")
    dropped = keras.ops.convert_to_numpy(layer(np.ones((200, 2, 2, 3), "float32"), training=True))
    assert (dropped == dropped[:, :1, :1, :1]).all()
    assert 0.3 < (dropped[:, 0, 0, 0] == 0).mean() < 0.99
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(np.ones((2, 2, 2, 3), "float32"))), 1)


@pytest.mark.one_backend
def test_the_weights_depend_only_on_the_seed():
    first, same, other = (efficientnet_lite(seed=seed, **SMALL).get_weights() for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, same, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


@pytest.mark.one_backend
def test_a_saved_model_gives_the_same_logits(tmp_path):
    model = efficientnet_lite(**SMALL)
    pictures = np.arange(2 * 32 * 32 * 3, dtype="uint8").reshape(2, 32, 32, 3)
    expected = predict_logits(model, pictures)
    assert np.isfinite(expected).all()
    model.save(tmp_path / "model.keras")
    opened = load_keras_model(tmp_path / "model.keras")
    np.testing.assert_allclose(predict_logits(opened, pictures), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": "lite5"}, f"size is 'lite5'; give one of {', '.join(SIZES)}"),
        ({"input_shape": (224, 224)}, "input_shape is"),
        ({"input_shape": (0, 224, 3)}, r"input_shape\[0\] is 0"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"stochastic_depth": -0.1}, "stochastic_depth is -0.1"),
    ],
)
def test_error_names_the_bad_argument(arguments, message):
    with pytest.raises(CourseError, match=message):
        efficientnet_lite(**arguments)
