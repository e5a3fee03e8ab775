"""The convolutional networks, against formulas, SciPy and NumPy."""

import keras
import numpy as np
import pytest
from scipy.signal import correlate2d

from keras_course.errors import CourseError
from keras_course.models import cnn_classifier, parameter_table
from keras_course.randomness import stream_key, uniform
from keras_course.training import fit, predict_logits

TINY = {"input_shape": (8, 7, 2), "filters": (3, 2), "dense": 5, "num_classes": 4, "dropout": 0.0, "dense_dropout": 0.0}


def pictures(count, shape=(8, 7, 2)):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def labels(count, classes=4):
    return np.arange(count, dtype="int32") % classes


def weights_of(model):
    return {weight.path: keras.ops.convert_to_numpy(weight).astype("float64") for weight in model.weights}


def layers_of(model):
    return {layer.name: layer for layer in model.layers}


def total(model):
    return parameter_table(model)[-1]


def test_the_default_network_has_404_099_trainable_parameters():
    model = cnn_classifier()
    blocks = [(9 * inputs + 1) * filters + 2 * filters for inputs, filters in ((1, 25), (25, 50), (50, 75))]
    assert sum(blocks) + (3 * 3 * 75 + 1) * 512 + (512 + 1) * 24 == 404_099
    assert total(model).trainable == 404_099
    sizes = [layers_of(model)[f"block{block}_pool"].output.shape for block in (1, 2, 3)]
    assert sizes == [(None, 14, 14, 25), (None, 7, 7, 50), (None, 3, 3, 75)]
    assert (model.input_shape, model.output_shape) == ((None, 28, 28, 1), (None, 24))


def test_the_older_edition_has_264_049_parameters():
    model = cnn_classifier(filters=(75, 50, 25), pool_padding="same")
    blocks = [(9 * inputs + 1) * filters + 4 * filters for inputs, filters in ((1, 75), (75, 50), (50, 25))]
    in_all = sum(blocks) + (4 * 4 * 25 + 1) * 512 + (512 + 1) * 24
    assert in_all == 264_049
    assert total(model).trainable == in_all - 2 * (75 + 50 + 25) == 263_749
    assert model.count_params() == in_all + 2  # the step counters of two dropout layers
    sizes = [layers_of(model)[f"block{block}_pool"].output.shape for block in (1, 2, 3)]
    assert sizes == [(None, 14, 14, 75), (None, 7, 7, 50), (None, 4, 4, 25)]


def test_layer_names_are_stable():
    block = ["conv", "normalisation", "relu", "dropout", "pool"]
    names = [layer.name for layer in cnn_classifier().layers]
    blocks = [f"block{n}_{kind}" for n in (1, 2, 3) for kind in block if kind != "dropout" or n == 2]
    assert names == ["pictures", "pixels", *blocks, "flatten", "dense", "dense_dropout", "logits"]
    names = [layer.name for layer in cnn_classifier(batch_normalization=False, **TINY).layers]
    blocks = [f"block{n}_{kind}" for n in (1, 2) for kind in ("conv", "relu", "pool")]
    assert names == ["pictures", "pixels", *blocks, "flatten", "dense", "logits"]
    assert cnn_classifier(name="mine", **TINY).name == "mine"


def test_dropout_is_given_for_each_block_or_for_all():
    arguments = {**TINY, "dense_dropout": 0.4}
    rates = {
        layer.name: layer.rate
        for layer in cnn_classifier(**arguments | {"dropout": 0.1}).layers
        if "dropout" in layer.name
    }
    assert rates == {"block1_dropout": 0.1, "block2_dropout": 0.1, "dense_dropout": 0.4}
    model = cnn_classifier(**arguments | {"dropout": (0.0, 0.3)})
    assert {layer.name for layer in model.layers if "dropout" in layer.name} == {"block2_dropout", "dense_dropout"}
    assert layers_of(model)["block2_dropout"].rate == 0.3


# --- The forward pass and a step of training, by the formulas -----------------------------------------------------


def convolved(x, kernel, bias):
    """Convolves by SciPy's correlation, for each picture, input channel and filter."""
    out = np.zeros((*x.shape[:3], kernel.shape[3])) + bias
    for picture, result in zip(x, out, strict=True):
        for inputs in range(kernel.shape[2]):
            for filters in range(kernel.shape[3]):
                result[..., filters] += correlate2d(picture[..., inputs], kernel[..., inputs, filters], mode="same")
    return out


def pooled(x, padding):
    rows, columns = x.shape[1:3]
    if padding == "same":
        x = np.pad(x, ((0, 0), (0, rows % 2), (0, columns % 2), (0, 0)), constant_values=-np.inf)
    rows, columns = x.shape[1] // 2, x.shape[2] // 2
    corners = [x[:, i : 2 * rows : 2, j : 2 * columns : 2] for i in (0, 1) for j in (0, 1)]
    return np.max(corners, axis=0)


def forward(w, x, *, training, padding="valid", scale=1 / 255):
    """Returns logits, and mean and variance of the input of each normalization, in float64 and without dropout."""
    x, moments, block = x * scale, {}, 1
    while f"block{block}_conv/kernel" in w:
        for turn in ("", *(number for number in range(2, 9) if f"block{block}_conv{number}/kernel" in w)):
            x = convolved(x, w[f"block{block}_conv{turn}/kernel"], w[f"block{block}_conv{turn}/bias"])
            name = f"block{block}_normalisation{turn}"
            if f"{name}/gamma" in w:
                moments[name] = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
                mean, variance = moments[name] if training else (w[f"{name}/moving_mean"], w[f"{name}/moving_variance"])
                x = (x - mean) / np.sqrt(variance + 1e-3) * w[f"{name}/gamma"] + w[f"{name}/beta"]
            x = np.maximum(x, 0)
        x = pooled(x, padding)
        block += 1
    x = np.maximum(x.reshape(len(x), -1) @ w["dense/kernel"] + w["dense/bias"], 0)
    return x @ w["logits/kernel"] + w["logits/bias"], moments


def cross_entropy(logits, y):
    logits = logits - logits.max(axis=1, keepdims=True)
    return np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y])


def with_random_weights(model):
    """Sets random weights, so that no statistic, scale or shift is 0 or 1."""
    draw = np.random.default_rng(3)
    model.set_weights(
        [weight + draw.uniform(0.1, 0.5, weight.shape).astype(weight.dtype) for weight in model.get_weights()]
    )
    return model


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("batch_normalization", [True, False])
def test_logits_equal_the_formulas(padding, batch_normalization):
    model = with_random_weights(cnn_classifier(pool_padding=padding, batch_normalization=batch_normalization, **TINY))
    expected, _ = forward(weights_of(model), pictures(3), training=False, padding=padding)
    np.testing.assert_allclose(predict_logits(model, pictures(3)), expected, rtol=1e-5, atol=1e-5)
    assert np.abs(np.diff(expected, axis=0)).max() > 0.01, "the logits must differ between pictures"


def test_logits_with_several_convolutions_in_each_block():
    model = with_random_weights(cnn_classifier(convolutions=3, **TINY))
    assert len([layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]) == 6
    expected, _ = forward(weights_of(model), pictures(3), training=False)
    np.testing.assert_allclose(predict_logits(model, pictures(3)), expected, rtol=1e-5, atol=1e-5)
    assert np.abs(np.diff(expected, axis=0)).max() > 0.01, "the logits must differ between pictures"


def test_layers_and_parameters_with_two_convolutions_in_each_block():
    model = cnn_classifier(convolutions=2)
    pairs = ((1, 25), (25, 25), (25, 50), (50, 50), (50, 75), (75, 75))
    blocks = [(9 * inputs + 1) * filters + 4 * filters for inputs, filters in pairs]
    counters = 2
    assert sum(blocks) + (3 * 3 * 75 + 1) * 512 + (512 + 1) * 24 + counters == model.count_params() == 483_901
    block = ["conv", "normalisation", "relu", "conv2", "normalisation2", "relu2", "pool"]
    assert [layer.name for layer in model.layers][2:9] == [f"block1_{kind}" for kind in block]


def test_the_scale_is_the_first_layer():
    model = with_random_weights(cnn_classifier(scale=0.5, **TINY))
    expected, _ = forward(weights_of(model), pictures(2) / 64, training=False, scale=0.5)
    np.testing.assert_allclose(predict_logits(model, (pictures(2) / 64).astype("float32")), expected, rtol=1e-5)


def test_a_training_step_equals_the_formulas():
    """Compares gradients with central differences in float64, and moving statistics with their definition."""
    model = cnn_classifier(momentum=0.7, seed=2, **TINY)
    before, (x, y) = weights_of(model), (pictures(6), labels(6))
    history = fit(model, (x, y), optimizer=keras.optimizers.SGD(1.0), epochs=1, batch_size=6, progress=False)
    after = weights_of(model)
    logits, moments = forward(before, x, training=True)
    assert history["loss"] == [pytest.approx(cross_entropy(logits, y), abs=1e-6)]
    for name, (mean, variance) in moments.items():
        np.testing.assert_allclose(after[f"{name}/moving_mean"], 0.3 * mean, atol=1e-6)
        np.testing.assert_allclose(after[f"{name}/moving_variance"], 0.7 + 0.3 * variance, atol=1e-6)
    checked = 0
    for weight in model.trainable_variables:
        for place in np.ndindex(before[weight.path].shape):
            losses = []
            for step in (1e-6, -1e-6):
                moved = {**before, weight.path: before[weight.path].copy()}
                moved[weight.path][place] += step
                losses.append(cross_entropy(forward(moved, x, training=True)[0], y))
            gradient = before[weight.path][place] - after[weight.path][place]
            assert gradient == pytest.approx((losses[0] - losses[1]) / 2e-6, abs=2e-5), (weight.path, place)
            checked += 1
    assert checked == total(model).trainable == 19 * 3 + 2 * 3 + 28 * 2 + 2 * 2 + 5 * 5 + 6 * 4


def test_a_step_of_adam_uses_the_gradient_of_each_weight():
    """The gradient of a convolution can have another memory layout than its kernel, which an update must respect."""
    data, start = (pictures(6), labels(6)), weights_of(cnn_classifier(seed=2, **TINY))
    after = {}
    for name, optimizer in {
        "sgd": keras.optimizers.SGD(1.0),
        "adam": keras.optimizers.Adam(0.01, epsilon=1e-3),
    }.items():
        model = cnn_classifier(seed=2, **TINY)
        fit(model, data, optimizer=optimizer, epochs=1, batch_size=6, progress=False)
        after[name] = weights_of(model)
    for weight in model.trainable_variables:
        gradient = start[weight.path] - after["sgd"][weight.path]  # the previous test checks it
        expected = start[weight.path] - 0.01 * gradient / (np.abs(gradient) + 1e-3 / np.sqrt(0.001))
        np.testing.assert_allclose(after["adam"][weight.path], expected, atol=1e-6, err_msg=weight.path)


def test_every_weight_except_biases_before_normalization_gets_a_gradient():
    model = cnn_classifier(**TINY | {"dropout": 0.2, "dense_dropout": 0.2})
    before = weights_of(model)
    fit(model, (pictures(32), labels(32)), optimizer=keras.optimizers.SGD(1.0), epochs=1, progress=False)
    moved = {path: np.abs(weight - before[path]).max() for path, weight in weights_of(model).items()}
    without = {path for path, change in moved.items() if change < 1e-5}
    assert without == {"block1_conv/bias", "block2_conv/bias"}


def test_dropout_counts_its_steps_and_is_active_only_in_training():
    x = pictures(10)
    plain, dropping = cnn_classifier(**TINY), cnn_classifier(**TINY | {"dropout": 0.5, "dense_dropout": 0.5})
    np.testing.assert_array_equal(predict_logits(dropping, x), predict_logits(plain, x))
    fit(dropping, (x, labels(10)), epochs=2, batch_size=4, progress=False)
    counters = {path: weight for path, weight in weights_of(dropping).items() if path.endswith("/step")}
    assert counters == {"block1_dropout/step": 6, "block2_dropout/step": 6, "dense_dropout/step": 6}


# --- Weights, precision, files --------------------------------------------------------------------------------------


def test_initial_weights_are_glorot_uniform_by_seed_and_name():
    model = cnn_classifier(seed=5)
    weights = weights_of(model)
    for name, shape in {"block1_conv": (3, 3, 1, 25), "block2_conv": (3, 3, 25, 50), "dense": (675, 512)}.items():
        window = np.prod(shape[:-2])
        limit = np.sqrt(6 / (window * (shape[-2] + shape[-1])))
        draws = uniform(stream_key(5, f"{name}/kernel"), shape).astype("float64")
        np.testing.assert_allclose(weights[f"{name}/kernel"], limit * (2 * draws - 1), rtol=1e-6, atol=1e-9)
        assert not weights[f"{name}/bias"].any()
    for start, kinds in {1: ("gamma", "moving_variance"), 0: ("beta", "moving_mean")}.items():
        for kind in kinds:
            assert set(weights[f"block3_normalisation/{kind}"]) == {start}


def test_the_weights_depend_only_on_the_seed():
    first, again, other = (weights_of(cnn_classifier(seed=seed, **TINY)) for seed in (1, 1, 2))
    for path in (path for path in first if path.endswith("kernel")):
        np.testing.assert_array_equal(first[path], again[path])
        assert not np.isclose(first[path], other[path]).any()


@pytest.fixture
def half_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(policy)


def test_in_half_precision_weights_and_logits_stay_float32(half_precision):
    model = cnn_classifier(**TINY)
    assert keras.backend.standardize_dtype(layers_of(model)["block1_conv"].compute_dtype) == "bfloat16"
    assert {weight.dtype for weight in model.get_weights()} == {np.dtype("float32")}
    data = (pictures(32), labels(32))
    history = fit(model, data, optimizer=keras.optimizers.SGD(0.1), epochs=4, batch_size=16, progress=False)
    assert history["loss"][-1] < history["loss"][0]
    assert (predict_logits(model, pictures(8)).view("uint32") & 0xFFFF).any(), "the logits are rounded to bfloat16"


def test_a_saved_model_gives_the_same_logits(tmp_path):
    model = with_random_weights(cnn_classifier(**TINY | {"dropout": 0.2}))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(predict_logits(again, pictures(3)), predict_logits(model, pictures(3)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes is 0; give"),
        ({"filters": (8, -1), "dropout": 0.0}, r"filters\[1\] is -1"),
        ({"convolutions": 0}, "convolutions is 0"),
        ({"kernel_size": 1.5}, "kernel_size is 1.5"),
        ({"dense": 0}, "dense is 0"),
        ({"input_shape": (28, 0, 1)}, r"input_shape\[1\] is 0"),
        ({"input_shape": (28, 28)}, r"input_shape is \(28, 28\); give height, width and channels"),
        ({"input_shape": (28, 7, 1)}, r"input_shape is \(28, 7, 1\), which is too small for 3 blocks; give .* 8 × 8"),
        ({"dropout": (0.0, 1.0, 0.0)}, r"dropout\[1\] is 1.0; give"),
        ({"dropout": (0.0, 0.2)}, "dropout has 2 entries and filters 3"),
        ({"dropout": -0.1}, r"dropout\[0\] is -0.1"),
        ({"dense_dropout": 1.5}, "dense_dropout is 1.5"),
        ({"pool_padding": "reflect"}, "pool_padding is 'reflect'; give one of valid, same"),
        ({"momentum": 1.0}, "momentum is 1.0; give"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_error_names_the_bad_argument(arguments, message):
    with pytest.raises(CourseError, match=message):
        cnn_classifier(**arguments)


def test_same_padding_keeps_small_pictures():
    model = cnn_classifier(input_shape=(5, 3, 1), pool_padding="same", num_classes=2)
    assert layers_of(model)["block3_pool"].output.shape == (None, 1, 1, 75)
