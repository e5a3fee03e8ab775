"""Each hook into private parts of Keras alone: the name of a test that fails names the hook that a new Keras broke."""

import ast
import inspect
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_course._backend import keras_private

PACKAGE = Path(keras_private.__file__).parents[1]
HOOKS = [
    name
    for name, value in vars(keras_private).items()
    if inspect.isfunction(value) and value.__module__ == keras_private.__name__ and not name.startswith("_")
]
needs_torch = pytest.mark.skipif(keras.backend.backend() != "torch", reason="a hook into Keras' backend of PyTorch")


def small(activation=None):
    return keras.Sequential([keras.Input((3,)), layers.Dense(2, activation=activation, name="dense")])


def compiled(model=None, loss="mse", **settings):
    model = model or small()
    model.compile(optimizer="sgd", loss=loss, **settings)
    return model


def batch():
    return np.ones((4, 3), "float32"), np.zeros((4, 2), "float32"), None


# --- completeness ---


def test_each_hook_has_a_test_and_a_line_in_the_table():
    assert len(HOOKS) > 40
    assert not [name for name in HOOKS if f"test_{name}" not in globals()]
    table = set(re.findall(r"``(\w+)``", "".join(re.findall(r"^\| (``.*?) \|", keras_private.__doc__, re.M))))
    assert table == set(HOOKS)


FOREIGN = (
    *("_replace", "_asdict", "_fields", "_exit", "_schema"),  # of Python, and of a graph of PyTorch
    *("_linear_pointwise", "_convolution_pointwise", "_fused_adam_", "_unsafe_view"),  # operations of PyTorch
)


def private_parts(path):
    """Yields the line and the name of each import of ``keras.src`` and each underscore attribute of another object."""
    text = path.read_text(encoding="utf-8")
    module = ast.parse(text)
    own = {node.name for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("keras.src"):
            yield node.lineno, node.module
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.startswith("keras.src"))
        elif isinstance(node, ast.Attribute):
            is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls", "super")
            is_private = node.attr.startswith("_") and not node.attr.startswith("__")
            is_ours = node.attr in (*FOREIGN, *own) or re.search(rf"self\.{node.attr}\b", text)
            if is_private and not is_own and not is_ours:
                yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr", "setattr"):
            name = getattr(node.args[1], "value", "")
            if isinstance(name, str) and re.match("_[a-z]", name) and name not in FOREIGN:
                yield node.lineno, name


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from keras.src.backend import nn", True),
        ("import keras.src.ops", True),
        ("layer._flatten_layers()", True),
        ("getattr(model, '_functional', None)", True),
        ("self._steps", False),
        ("row._replace(x=1)", False),
        ("model.__dict__", False),
    ],
)
def test_the_search_for_private_parts_finds_them(tmp_path, code, found):
    (tmp_path / "code.py").write_text(code)
    assert bool(list(private_parts(tmp_path / "code.py"))) == found


def test_no_other_file_uses_private_parts_of_keras():
    others = [path for path in PACKAGE.rglob("*.py") if path.stem != "keras_private"]
    assert len(others) > 50
    assert not [f"{path}:{line} {name}" for path in others for line, name in private_parts(path)]


# --- layers and graphs ---


def test_all_layers():
    inner = small()
    outer = keras.Sequential([keras.Input((3,)), inner, layers.ReLU(name="relu")])
    names = {layer.name for layer in keras_private.all_layers(outer, include_self=False)}
    assert {inner.name, "dense", "relu"} <= names
    assert outer in keras_private.all_layers(outer)
    assert "dense" not in {layer.name for layer in keras_private.all_layers(outer, recursive=False)}


def test_own_variables():
    layer = layers.BatchNormalization()
    layer.build((None, 2))
    assert {variable.name for variable in keras_private.own_variables(layer)} == {
        *("gamma", "beta", "moving_mean", "moving_variance")
    }
    assert keras_private.own_variables(small()) == []


def test_takes_training():
    class WithoutTraining(keras.Model):
        def call(self, inputs):
            return inputs

    assert keras_private.takes_training(small())
    assert not keras_private.takes_training(WithoutTraining())


def test_graph_of():
    model = small()
    assert isinstance(keras_private.graph_of(model), keras.Model)
    assert keras_private.graph_of(model) is not model
    assert keras_private.graph_of(keras.Sequential([layers.Dense(1)])) is None
    functional = keras.Model(model.inputs, model.outputs)
    assert keras_private.graph_of(functional) is functional


def test_is_functional():
    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    model = small()
    assert keras_private.is_functional(keras.Model(model.inputs, model.outputs))
    assert not keras_private.is_functional(Own())


def test_input_structure():
    inputs = {"a": keras.Input((2,), name="a"), "b": keras.Input((2,), name="b")}
    model = keras.Model(inputs, layers.Add()(list(inputs.values())))
    assert {name: tensor.name for name, tensor in keras_private.input_structure(model).items()} == {"a": "a", "b": "b"}
    assert keras_private.input_structure(small()).shape == (None, 3)
    assert keras_private.input_structure(keras.Sequential()) is None


def test_output_structure():
    model = small()
    assert keras_private.output_structure(model) is model.outputs[0]
    both = keras.Model(model.inputs, [model.outputs[0], model.outputs[0] + 1.0])
    assert len(keras_private.output_structure(both)) == 2


def test_calls_in_graph():
    inputs = keras.Input((2,))
    dense = layers.Dense(2)
    calls = keras_private.calls_in_graph(keras.Model(inputs, dense(dense(inputs))))
    assert len(calls) == 3  # the input, and the layer twice
    assert sum(len(call.arguments.args) for call in calls) == 2


def test_uses_a_layer_twice():
    inputs = keras.Input((2,))
    dense = layers.Dense(2)
    assert not keras_private.uses_a_layer_twice(keras.Model(inputs, dense(inputs)))
    assert keras_private.uses_a_layer_twice(keras.Model(inputs, dense(dense(inputs))))


def test_calls_of():
    dense = layers.Dense(2)
    assert keras_private.calls_of(dense) == []
    output = dense(keras.Input((3,)))
    (call,) = keras_private.calls_of(dense)
    assert [tensor.shape for tensor in call.arguments.keras_tensors] == [(None, 3)]
    assert call.outputs[0] is output


def test_call_that_made():
    dense, inputs = layers.Dense(2), keras.Input((3,))
    operation, call, place = keras_private.call_that_made(dense(inputs))
    assert operation is dense
    assert call.arguments.args[0] is inputs
    assert place == 0
    assert keras_private.call_that_made(keras.KerasTensor((2,))) is None


def test_graph_unchanged():
    dense = layers.Dense(2)
    inputs = keras.Input((3,))
    with keras_private.graph_unchanged([dense, *keras_private.all_layers(dense)]):
        dense(inputs)
        assert len(keras_private.calls_of(dense)) == 1
    assert keras_private.calls_of(dense) == []


def test_has_mask():
    tokens = keras.Input((4,), dtype="int32")
    assert keras_private.has_mask(layers.Embedding(5, 2, mask_zero=True)(tokens))
    assert not keras_private.has_mask(layers.Embedding(5, 2)(tokens))


# --- operations ---


def test_operation_calls_replaced():
    seen = []

    def watch(native):
        def watched(operation, *args, **kwargs):
            seen.append(type(operation).__name__)
            return native(operation, *args, **kwargs)

        return watched

    inputs = keras.Input((3,))
    with keras_private.operation_calls_replaced(watch):
        ops.relu(layers.Dense(2)(inputs))
    count = len(seen)
    layers.Dense(2)(inputs)
    assert "Dense" in seen
    assert len(seen) == count


def test_tensor_creation_replaced():
    shapes = []

    def watch(native):
        def watched(tensor, shape, *args, **kwargs):
            shapes.append(tuple(shape))
            native(tensor, shape, *args, **kwargs)

        return watched

    with keras_private.tensor_creation_replaced(watch):
        layers.Dense(2)(keras.Input((3,)))
    count = len(shapes)
    keras.Input((3,))
    assert (None, 3) in shapes
    assert (None, 2) in shapes
    assert len(shapes) == count


def test_output_spec():
    spec = keras_private.output_spec(lambda x: ops.concatenate([x, x]), keras.KerasTensor((2, 3)))
    assert spec.shape == (4, 3)


def test_backend_operation():
    pooled = keras_private.backend_operation("max_pool")(
        ops.convert_to_tensor(np.arange(4, dtype="float32").reshape(1, 2, 2, 1)), 2, 2, "valid", "channels_last"
    )
    assert float(ops.convert_to_numpy(pooled).item()) == 3.0


def test_backend_operations_replaced():
    calls = []

    def pool(inputs, *args, **kwargs):
        calls.append("layer or operation")
        return inputs

    pictures = ops.zeros((1, 2, 2, 1))
    with keras_private.backend_operations_replaced({"max_pool": pool}):
        layers.MaxPooling2D(2)(pictures)
        ops.max_pool(pictures, 2)
    assert layers.MaxPooling2D(2)(pictures).shape == (1, 1, 1, 1)
    assert len(calls) == 2


def test_inner_loop_replaced():
    seen = []

    def watch(native):
        def watched(layer, sequences, initial_state, mask, training=False):
            seen.append((tuple(sequences.shape), len(initial_state), mask, training))
            return native(layer, sequences, initial_state, mask, training=training)

        return watched

    layer = layers.LSTM(4, return_state=True)
    x = ops.ones((2, 3, 5))
    expected = layer(x)
    with keras_private.inner_loop_replaced(layers.LSTM, watch):
        found = layer(x, training=True)
        layers.GRU(4)(x)
    layer(x)
    assert seen == [((2, 3, 5), 2, None, True)]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(one), ops.convert_to_numpy(other))


def test_is_operation_of_keras():
    class Own(keras.Operation):
        def call(self, x):
            return x

        def compute_output_spec(self, x):
            return x

    operation, _, _ = keras_private.call_that_made(ops.softmax(keras.Input((3,))))
    assert keras_private.is_operation_of_keras(operation)
    assert not keras_private.is_operation_of_keras(Own())


def test_is_activation_of_keras():
    assert keras_private.is_activation_of_keras(keras.activations.gelu)
    assert not keras_private.is_activation_of_keras(lambda x: x)


def test_operations_of_keras():
    found = keras_private.operations_of_keras(["numpy", "nn", "no_such_module"])
    assert set(found) == {"keras.src.ops.numpy", "keras.src.ops.nn"}
    assert {"Concatenate", "Reshape"} <= found["keras.src.ops.numpy"]
    assert {"Softmax", "Relu"} <= found["keras.src.ops.nn"]


# --- saving, names and variables ---


def test_object_sharing():
    shared = layers.Dense(2)
    with keras_private.object_sharing():
        config = keras.saving.serialize_keras_object([shared, shared])
    with keras_private.object_sharing():
        first, second = keras.saving.deserialize_keras_object(config)
    assert first is second


def test_layer_names():
    with keras_private.layer_names():
        name = layers.Dense(1).name
        assert layers.Dense(1).name != name
    assert layers.Dense(1).name == name


def test_deferred_variables():
    dense = layers.Dense(10**6)
    with keras_private.deferred_variables() as variables:
        dense.build((None, 10**6))
    assert [tuple(variable.shape) for variable in variables] == [(10**6, 10**6), (10**6,)]
    assert not any(map(keras_private.has_value, variables))
    with keras_private.deferred_variables() as others:
        pass
    assert others == []


def deferred_dense():
    dense = layers.Dense(3)
    with keras_private.deferred_variables():
        dense.build((None, 2))
    return dense


def test_has_value():
    dense = layers.Dense(3)
    dense.build((None, 2))
    assert keras_private.has_value(dense.kernel)
    assert not keras_private.has_value(deferred_dense().kernel)


def test_initializer_of():
    dense = deferred_dense()
    assert keras_private.initializer_of(dense.kernel) is dense.kernel_initializer


def test_set_initializer():
    kernel = deferred_dense().kernel
    keras_private.set_initializer(kernel, lambda shape, dtype=None: ops.full(shape, 7.0, dtype))
    keras_private.create(kernel)
    np.testing.assert_array_equal(ops.convert_to_numpy(kernel), np.full((2, 3), 7.0))


def test_create():
    bias = deferred_dense().bias
    keras_private.create(bias)
    assert keras_private.has_value(bias)
    np.testing.assert_array_equal(ops.convert_to_numpy(bias), np.zeros(3))


def test_is_random_initializer():
    assert keras_private.is_random_initializer(keras.initializers.HeNormal())
    assert keras_private.is_random_initializer(keras.initializers.Orthogonal())
    assert not keras_private.is_random_initializer(keras.initializers.Zeros())


# --- training ---


def test_build_on():
    model = compiled(keras.Sequential([layers.Dense(2)]), metrics=["mae"])
    keras_private.build_on(model, *batch())
    assert model.built
    assert [tuple(weight.shape) for weight in model.weights] == [(3, 2), (2,)]
    assert "mae" in model.get_metrics_result()


def test_compute_loss():
    class TwoArguments(keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return ops.sum(y_pred)

    x, y, _ = batch()
    for kind, expected in ((keras.Sequential, 4.0), (TwoArguments, 16.0)):
        model = compiled(kind([keras.Input((3,)), layers.Dense(2)]))
        keras_private.build_on(model, x, y, None)
        outputs = ops.full((4, 2), 2.0)
        loss = keras_private.compute_loss(model, ops.convert_to_tensor(x), ops.convert_to_tensor(y), outputs, None)
        assert float(ops.convert_to_numpy(loss)) == expected


def test_additional_loss():
    assert float(ops.convert_to_numpy(keras_private.additional_loss(small(), ops.convert_to_tensor([1.0, 2.0])))) == 3.0


def test_metrics_results():
    model = compiled(metrics=["mae"])
    keras_private.build_on(model, *batch())
    assert set(keras_private.metrics_results(model, {"loss": 1.0, "mae": 1.0})) == {"loss", "mae"}
    assert keras_private.metrics_results(model, {"own": 1.0}) == {"own": 1.0}


def test_loss_tracker():
    model = compiled()
    assert isinstance(keras_private.loss_tracker(model), keras.metrics.Mean)
    assert any(metric is keras_private.loss_tracker(model) for metric in model.metrics)


def test_compiled_loss():
    given = keras.losses.MeanAbsoluteError()
    model = compiled(loss=given)
    keras_private.build_on(model, *batch())
    total, loss = keras_private.compiled_loss(model)
    assert loss is given
    assert float(ops.convert_to_numpy(total(ops.zeros((4, 2)), ops.full((4, 2), 3.0)))) == 3.0


def test_forget_compilation():
    model = compiled(metrics=["mae"])
    keras_private.forget_compilation(model)
    model.compile(optimizer="sgd")
    assert model.loss is None
    assert [metric.name for metric in model.metrics] == ["loss"]


def test_forget_compile_config(tmp_path):
    model = compiled()
    keras_private.forget_compile_config(model)
    assert not model.get_compile_config()
    model.save(tmp_path / "model.keras")
    assert not keras.saving.load_model(tmp_path / "model.keras").compiled


def backed_up(folder):
    """A model that BackupAndRestore has restored after its first epoch."""
    x, y, _ = batch()

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise RuntimeError

    model = compiled()
    backup = keras.callbacks.BackupAndRestore(folder)
    with pytest.raises(RuntimeError):
        model.fit(x, y, epochs=3, callbacks=[Stop(), backup], verbose=0)
    again = compiled()
    restore = keras.callbacks.BackupAndRestore(folder)
    restore.set_model(again)
    restore.on_train_begin()
    return again


def test_initial_epoch(tmp_path):
    assert keras_private.initial_epoch(small()) == 0
    assert keras_private.initial_epoch(backed_up(tmp_path)) == 1


def test_reset_initial_epoch(tmp_path):
    model = backed_up(tmp_path)
    keras_private.reset_initial_epoch(model)
    assert keras_private.initial_epoch(model) == 0


def test_function_settings():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    settings = keras_private.function_settings(loss)
    assert (settings["from_logits"], settings["ignore_class"]) == (True, 0)
    assert keras_private.function_settings(len) == {}


def test_function_of():
    metric = keras.metrics.SparseCategoricalAccuracy()
    assert keras_private.function_of(metric) is keras.metrics.sparse_categorical_accuracy
    loss = keras.losses.MeanSquaredError()
    assert keras_private.function_of(loss) is keras.losses.mean_squared_error
    assert keras_private.function_of(len) is len


# --- optimizers ---


def test_trained_variables():
    model = small()
    for optimizer in (keras.optimizers.SGD(), keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())):
        optimizer.build(model.trainable_variables)
        found = keras_private.trained_variables(optimizer)
        assert [id(one) for one in found] == [id(one) for one in model.trainable_variables]


def test_optimizer_update_replaced():
    weight = keras.Variable([1.0])
    optimizer = keras.optimizers.SGD(0.5)
    optimizer.build([weight])
    seen = []

    def update(gradients, variables, learning_rate):
        seen.append((len(gradients), variables[0] is weight, float(ops.convert_to_numpy(learning_rate))))

    with keras_private.optimizer_update_replaced(optimizer, update, lambda native: native() * 3):
        optimizer.apply([ops.convert_to_tensor([1.0])], [weight])
    assert seen == [(1, True, 1.5)]
    optimizer.apply([ops.convert_to_tensor([1.0])], [weight])
    assert ops.convert_to_numpy(weight).tolist() == [0.5]


def test_general_update():
    weight = keras.Variable([1.0])
    optimizer = keras.optimizers.SGD(0.5)
    optimizer.build([weight])
    update = keras_private.general_update(type(optimizer))
    assert not update.__module__.startswith("keras.src.backend.")
    update(optimizer, [ops.convert_to_tensor([1.0])], [weight], ops.convert_to_tensor(0.25))
    assert ops.convert_to_numpy(weight).tolist() == [0.75]


def test_adam_moments():
    weights = [keras.Variable([1.0]), keras.Variable([1.0, 2.0])]
    optimizer = keras.optimizers.Adam(beta_1=0.5, beta_2=0.75)
    optimizer.build(weights)
    optimizer.apply([ops.convert_to_tensor([2.0]), ops.convert_to_tensor([4.0, 8.0])], weights)
    first, second = keras_private.adam_moments(optimizer, weights[::-1])
    assert [ops.convert_to_numpy(moment).tolist() for moment in first] == [[2.0, 4.0], [1.0]]
    assert [ops.convert_to_numpy(moment).tolist() for moment in second] == [[4.0, 16.0], [1.0]]


# --- PyTorch ---


@needs_torch
def test_torch_device():
    assert ops.zeros(1).device.type == keras_private.torch_device().partition(":")[0]


@needs_torch
def test_torch_cond_replaced():
    with keras_private.torch_cond_replaced(lambda condition, if_true, if_false: if_false()):
        assert ops.cond(ops.convert_to_tensor(True), lambda: 1, lambda: 2) == 2
    assert ops.cond(ops.convert_to_tensor(True), lambda: 1, lambda: 2) == 1
