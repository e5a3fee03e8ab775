"""Optimizes a graph that ``make_fx`` has traced, so that it runs as fast as one written by hand.

A traced graph repeats every operation of Keras. Values that depend on no input are computed once, and sequences of
operations become one kernel where PyTorch has it, which saves passes through memory.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import make_fx

_aten = torch.ops.aten
_FACTORIES = (_aten.arange.default, _aten.arange.start, _aten.arange.start_step, _aten.full.default)
_CHANNELS_LAST = [0, 2, 3, 1]
_VIEWS = (_aten.view.default, _aten._unsafe_view.default)
_AFFINE = (_aten.add.Tensor, _aten.sub.Tensor, _aten.mul.Tensor)


def trace(function: Callable[..., Any], *arguments: Any) -> torch.fx.GraphModule:
    """Traces the PyTorch operations of a function; only shapes are computed."""
    return make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(*arguments)


def fold_constants(graph: torch.fx.GraphModule) -> None:
    """Replaces values that depend on no input by constants, and removes ``detach``, which has no effect any more."""
    constants: dict[torch.fx.Node, Any] = {}
    written = _written(graph)
    for node in list(graph.graph.nodes):
        if node.op == "get_attr":
            if node not in written:
                constants[node] = getattr(graph, node.target)
        elif node.target is _aten.detach.default:
            node.replace_all_uses_with(node.args[0])
        elif _can_be_folded(node, constants, written):
            args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), constants.__getitem__)
            value = node.target(*args, **kwargs)
            if not isinstance(value, torch.Tensor):  # a list of tensors; each is folded where it is used
                constants[node] = value
                continue
            folded = _constant(graph, node, value)
            constants[folded] = value
            node.replace_all_uses_with(folded)


def multiply_with_onednn(graph: torch.fx.GraphModule) -> None:
    """Replaces float32 matrix products by oneDNN's linear layer, which takes the transposed matrix and adds a bias."""
    linear = torch.ops.mkldnn._linear_pointwise.default
    for node in list(graph.graph.nodes):
        if node.target is _aten.addmm.default and not node.kwargs:
            bias, left, right = node.args
        elif node.target is _aten.mm.default:
            bias, (left, right) = None, node.args
            if (added := _added_bias(node)) is not None:
                node, bias = added
        else:
            continue
        if node.meta["val"].dtype != torch.float32 or (bias is not None and bias.meta["val"].ndim != 1):
            continue
        with graph.graph.inserting_before(node):
            if right.target is _aten.t.default:
                transposed = right.args[0]
            else:
                transposed = graph.graph.call_function(_aten.t.default, (right,))
            product = graph.graph.call_function(linear, (left, transposed, bias, "none", [], ""))
        node.replace_all_uses_with(product)
        graph.graph.erase_node(node)


def _added_bias(product: torch.fx.Node) -> tuple[torch.fx.Node, torch.fx.Node] | None:
    """Returns the addition of a float32 bias to a product that nothing else uses, and the bias; else None."""
    user = _only_user(product)
    if user is None or user.target is not _aten.add.Tensor or user.kwargs or product not in user.args:
        return None
    bias = next((other for other in user.args if other is not product), None)
    if not isinstance(bias, torch.fx.Node):
        return None
    value = bias.meta.get("val")
    is_bias = value is not None and value.dtype == torch.float32 and value.shape == product.meta["val"].shape[1:]
    return (user, bias) if is_bias else None


def trace_frozen(
    function: Callable[..., Any], inputs: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]
) -> torch.fx.GraphModule:
    """Traces a function of inputs and of frozen weights, which become constants of the graph.

    The normalization after a convolution is folded into its weights, and on a CPU the activation is fused. A matrix
    product and the bias after it become one operation.
    """
    graph = trace(torch.func.functionalize(function), *inputs, *weights)
    placeholders = graph.graph.find_nodes(op="placeholder")[len(inputs) :]
    for placeholder, value in zip(placeholders, weights, strict=True):
        placeholder.replace_all_uses_with(_constant(graph, placeholder, value))
        graph.graph.erase_node(placeholder)
    _fuse(graph, inputs[0].device)
    return graph


def trace_any_shape(
    function: Callable[..., Any], inputs: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]
) -> tuple[torch.fx.GraphModule, Callable[..., bool]]:
    """Traces a function as ``trace_frozen`` does, but with symbols for the shapes of its inputs.

    Also returns a function that says whether the graph is right for other inputs: code may depend on a shape. Sides of
    the inputs that are equal have to be equal later, too.
    """
    with_weights = torch.func.functionalize(lambda *given: function(*given, *weights))
    graph = make_fx(with_weights, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*inputs)
    symbolic = [node.meta["val"] for node in graph.graph.find_nodes(op="placeholder")]
    known = symbolic[0].fake_mode.shape_env
    _fuse(graph, inputs[0].device)
    return graph, lambda *given: known.evaluate_guards_for_args(symbolic, given, ignore_static=False)


def _fuse(graph: torch.fx.GraphModule, device: torch.device) -> None:
    """Computes what depends on weights only, and replaces sequences of operations by one."""
    fold_constants(graph)
    with_activation = device.type == "cpu" and torch.backends.mkldnn.is_available()
    for node in list(graph.graph.nodes):
        if node.target is _aten.convolution.default:
            _skip_copies(node)
            _fold_into_convolution(graph, node, with_activation=with_activation)
        elif node.target is _aten.mm.default:
            _add_bias(graph, node)
    finish(graph)


def finish(graph: torch.fx.GraphModule) -> None:
    """Removes unused nodes from a changed graph and recompiles it."""
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _can_be_folded(node: torch.fx.Node, constants: Mapping[torch.fx.Node, Any], written: set[torch.fx.Node]) -> bool:
    if node in written or _is_mutable(node) or _draws(node):
        return False
    if not node.all_input_nodes:
        return node.target in _FACTORIES
    return node.op == "call_function" and all(source in constants for source in node.all_input_nodes)


def _draws(node: torch.fx.Node) -> bool:
    """Returns whether an operation draws random numbers, so that its result differs each time."""
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _is_mutable(node: torch.fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _written(graph: torch.fx.GraphModule) -> set[torch.fx.Node]:
    """Returns the values that an operation changes in place, directly or through a view."""
    written: set[torch.fx.Node] = set()
    waiting = [source for node in graph.graph.nodes if _is_mutable(node) for source in _changed_arguments(node)]
    while waiting:
        node = waiting.pop()
        schema = getattr(node.target, "_schema", None)
        if node not in written and schema is not None and any(result.alias_info for result in schema.returns):
            waiting += node.all_input_nodes
        written.add(node)
    return written


def _changed_arguments(node: torch.fx.Node) -> list[torch.fx.Node]:
    """Returns the arguments that an operation changes in place."""
    schema = node.target._schema
    given = dict(zip((argument.name for argument in schema.arguments), node.args, strict=False)) | node.kwargs
    changed = [given.get(argument.name) for argument in schema.arguments if argument.is_write]
    flat = [part for value in changed for part in (value if isinstance(value, list | tuple) else [value])]
    return [part for part in flat if isinstance(part, torch.fx.Node)]


def _constant(graph: torch.fx.GraphModule, before: torch.fx.Node, value: Any, kind: str = "value") -> torch.fx.Node:
    """Adds a constant to the graph."""
    name = f"{kind}_of_{before.name}"
    graph.register_buffer(name, value)
    with graph.graph.inserting_before(before):
        return graph.graph.get_attr(name)


def _skip_copies(node: torch.fx.Node) -> None:
    """Removes copies of the input of a convolution, which accepts both memory layouts of the channels."""
    source = node.args[0]
    while source.target is _aten.clone.default:
        source = source.args[0]
    node.update_arg(0, source)
    if source.target is _aten.constant_pad_nd.default:
        _skip_copies(source)


def _fold_into_convolution(graph: torch.fx.GraphModule, convolution: torch.fx.Node, *, with_activation: bool) -> None:
    """Folds the factors and offsets of each channel after a convolution into its weights and bias."""
    x, weight, bias, stride, padding, dilation, transposed, _, groups = convolution.args
    last = _only_user(convolution)
    if transposed or last is None or last.target is not _aten.permute.default or last.args[1] != _CHANNELS_LAST:
        return
    if not all(node is None or node.op == "get_attr" for node in (weight, bias)):
        return
    kernel = getattr(graph, weight.target)
    scale = torch.ones_like(kernel[:, 0, 0, 0])
    shift = torch.zeros_like(scale) if bias is None else getattr(graph, bias.target)
    while (user := _only_user(last)) is not None and (value := _constant_operand(graph, user, last, scale)) is not None:
        if user.target is _aten.mul.Tensor:
            scale, shift = scale * value, shift * value
        else:
            shift = shift + (value if user.target is _aten.add.Tensor else -value)
        last = user
    new_weight = _constant(graph, convolution, (kernel * scale.reshape(-1, 1, 1, 1)).contiguous(), "kernel")
    new_bias = _constant(graph, convolution, shift.contiguous(), "bias")
    following = _only_user(last)
    activation = _activation(following) if with_activation and kernel.dtype == torch.float32 else None
    with graph.graph.inserting_before(convolution):
        if activation is None or following is None:
            args = (x, new_weight, new_bias, *convolution.args[3:])
            new = graph.graph.call_function(_aten.convolution.default, args)
        else:
            last = following
            pointwise = torch.ops.mkldnn._convolution_pointwise.default
            args = (x, new_weight, new_bias, padding, stride, dilation, groups, *activation, "")
            new = graph.graph.call_function(pointwise, args)
        result = graph.graph.call_function(_aten.permute.default, (new, _CHANNELS_LAST))
    last.replace_all_uses_with(result)


def _add_bias(graph: torch.fx.GraphModule, product: torch.fx.Node) -> None:
    """Replaces a matrix product and the constant that is added to each row by one operation, ``addmm``."""
    last, view = product, None
    following = _only_user(last)
    if following is not None and following.target in _VIEWS and following.args[1][-1] == product.meta["val"].shape[1]:
        last = view = following
        following = _only_user(last)
    if following is None or following.target is not _aten.add.Tensor or following.kwargs:
        return
    bias = next((part for part in following.args if part is not last), None)
    if not isinstance(bias, torch.fx.Node) or bias.op != "get_attr":
        return
    value = getattr(graph, bias.target)
    if value.ndim != 1 or len(value) != product.meta["val"].shape[1] or value.dtype != product.meta["val"].dtype:
        return
    with graph.graph.inserting_before(following):
        new = graph.graph.call_function(_aten.addmm.default, (bias, *product.args))
        if view is not None:
            new = graph.graph.call_function(_aten.view.default, (new, view.args[1]))
    following.replace_all_uses_with(new)
    graph.graph.erase_node(following)


def _only_user(node: torch.fx.Node) -> torch.fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _constant_operand(
    graph: torch.fx.GraphModule, node: torch.fx.Node, channels: torch.fx.Node, like: torch.Tensor
) -> torch.Tensor | None:
    """Returns the operand that is added to or multiplied with the channels if it is one constant for each channel."""
    if node.target not in _AFFINE or node.kwargs:
        return None
    left, right = node.args
    if node.target is not _aten.sub.Tensor and right is channels:
        left, right = right, left
    if left is not channels or right is channels:
        return None
    if isinstance(right, torch.fx.Node):
        value = getattr(graph, right.target) if right.op == "get_attr" else None
    else:
        value = torch.as_tensor(right, dtype=like.dtype, device=like.device)
    if value is None or value.dtype != like.dtype or value.shape.numel() not in (1, len(like)):
        return None
    if value.ndim and value.shape[-1] != value.shape.numel():
        return None
    return value.reshape(-1)


def _activation(node: torch.fx.Node | None) -> tuple[str, list[float]] | None:
    """Returns the name and the arguments of an activation in oneDNN, None if it has none."""
    if node is None:
        return None
    if node.target is _aten.relu.default:
        return "relu", []
    if node.target is _aten.hardtanh.default:
        return "hardtanh", list(node.args[1:])
    return None
