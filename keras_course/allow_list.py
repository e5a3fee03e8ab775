"""What a model file may be made of: the layers and operations that are opened, whoever the file comes from.

Keras in safe mode refuses lambdas, and would still look up any name in any of its own modules: functions that download,
or that open other models. So what is not on this list is refused: when a file is opened, and before a model is trained
whose file nobody could open.
"""

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from keras_course._backend import keras_private
from keras_course._backend.outputs import find_larger, may_be_larger
from keras_course._backend.weights import describe, global_state_restored, is_plain, rebuild, without_training
from keras_course.errors import CourseError, reason_of

if TYPE_CHECKING:
    import keras

__all__ = ["LARGEST_OUTPUT", "check_can_be_opened", "check_description", "check_outputs", "register_layers"]

LARGEST_OUTPUT: Final = 2**27
"""How many numbers a layer may make of one sample."""

_OF_THE_COURSE: Final = "keras_course>"
_NETS: Final = ("Functional", "Sequential")
_TENSOR: Final = "__keras_tensor__"
"""Not a class, but how Keras writes which layer's output another one takes."""
_ARRAYS: Final = ("__numpy__", "__tensor__")
"""How Keras writes arrays and tensors."""
_PARTS_OF_KEYS: Final = ("__slice__", "__ellipsis__")
"""How Keras writes what stands in square brackets, as in x[..., 1:]."""
_NUMBERS: Final = {
    *("bool", "bfloat16", "float16", "float32", "float64"),
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
}

_CODE: Final = "it holds code of its own, which is not run; write it with layers of Keras and keras.ops"
_FILES: Final = "it can read files that it names; use it before the model, on the data"
_UNKNOWN: Final = "only layers of Keras and of this course are opened; build it of those and of keras.ops"
_NO_LIMIT: Final = "the size of what it makes depends on the numbers that it is given; use another operation"

REFUSED_LAYERS: Final = {
    **dict.fromkeys(("Lambda", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"), _CODE),
    **dict.fromkeys(("Wrapper", "Layer"), "it is no layer by itself; use one of those that are made from it"),
    **dict.fromkeys(("TextVectorization", "StringLookup", "IntegerLookup", "TFSMLayer"), _FILES),
    "MelSpectrogram": "it makes a table as large as it says, which is no weight; use it before the model, on the data",
}
"""The layers of Keras that are not opened, and why."""

REFUSED_OPERATIONS: Final = {
    **dict.fromkeys(
        ("Map", "Scan", "AssociativeScan", "Switch", "WhileLoop", "ForiLoop", "Cond", "VectorizedMap", "JVP"), _CODE
    ),
    **dict.fromkeys(("Arange", "Bincount", "Nonzero", "Unique", "SegmentReduction"), _NO_LIMIT),
    "Diff": "it can be told to repeat itself without an end; subtract slices, x[:, 1:] - x[:, :-1]",
    "EmptyLike": "it shows what was left in the memory; use zeros_like",
    "Rot90": "Keras cannot call it again once it is saved; use transpose and flip",
    "ElasticTransform": "it draws random numbers of a generator of its own; use a layer for augmentation",
    **dict.fromkeys(
        ("CTCDecode", "ISTFT", "ScaleAndTranslate", "SSIM"),
        "it can need far more memory than what it makes; use it after the model",
    ),
}
"""The operations of ``keras.ops`` that are not opened, and why."""

ALLOWED_OPERATIONS: Final = {
    "keras.src.ops.numpy": {
        *("Abs", "Absolute", "Add", "All", "AllClose", "Amax", "Amin", "Angle", "Any", "Append"),
        *("Arccos", "Arccosh", "Arcsin", "Arcsinh", "Arctan", "Arctan2", "Arctanh", "Argmax", "Argmin"),
        *("Argpartition", "Argsort", "Array", "ArraySplit", "Average", "BitwiseAnd", "BitwiseInvert"),
        *("BitwiseLeftShift", "BitwiseNot", "BitwiseOr", "BitwiseRightShift", "BitwiseXor"),
        *("BroadcastTo", "Cbrt", "Ceil", "Clip", "Concatenate", "Conj", "Conjugate", "Copy", "Corrcoef"),
        *("Correlate", "Cos", "Cosh", "CountNonzero", "Cross", "Cumprod", "Cumsum", "Deg2rad", "Diag"),
        *("Diagflat", "Diagonal", "Digitize", "Divide", "DivideNoNan", "Dot", "Dsplit", "Dstack"),
        *("Einsum", "Equal", "Exp", "Exp2", "ExpandDims", "Expm1", "Fabs", "Flip", "Fliplr", "Flipud"),
        *("Floor", "FloorDivide", "Fmax", "Fmin", "Fmod", "Full", "FullLike", "Gcd", "Geomspace"),
        *("GetItem", "Greater", "GreaterEqual", "Heaviside", "Histogram", "Hsplit", "Hstack", "Hypot"),
        *("I0", "Imag", "Inner", "IsIn", "Isclose", "Isfinite", "Isinf", "Isnan", "Isneginf", "Isposinf"),
        *("Isreal", "Kron", "Lcm", "Ldexp", "LeftShift", "Less", "LessEqual", "Linspace", "Log", "Log10"),
        *("Log1p", "Log2", "Logaddexp", "Logaddexp2", "LogicalAnd", "LogicalNot", "LogicalOr"),
        *("LogicalXor", "Logspace", "Matmul", "Max", "Maximum", "Mean", "Median", "Meshgrid", "Min"),
        *("Minimum", "Mod", "Moveaxis", "Multiply", "NanToNum", "Nanargmax", "Nanargmin", "Nancumprod"),
        *("Nancumsum", "Nanmax", "Nanmean", "Nanmedian", "Nanmin", "Nanpercentile", "Nanprod"),
        *("Nanquantile", "Nanstd", "Nansum", "Nanvar", "Ndim", "Negative", "Nextafter", "NotEqual"),
        *("OnesLike", "Outer", "Pad", "Percentile", "Power", "Prod", "Ptp", "Quantile", "Rad2deg"),
        *("Ravel", "Real", "Reciprocal", "Repeat", "Reshape", "RightShift", "Roll", "Round"),
        *("SearchSorted", "Select", "Sign", "Signbit", "Sin", "Sinc", "Sinh", "Size", "Slogdet", "Sort"),
        *("Split", "Sqrt", "Square", "Squeeze", "Stack", "Std", "Subtract", "Sum", "Swapaxes", "Take"),
        *("TakeAlongAxis", "Tan", "Tanh", "Tensordot", "Tile", "Trace", "Transpose", "Trapezoid", "Tril"),
        *("Triu", "TrueDivide", "Trunc", "UnravelIndex", "Vander", "Var", "Vdot", "View", "Vsplit"),
        *("Vstack", "Where", "ZerosLike"),
    },
    "keras.src.ops.core": {
        *("Cast", "ConvertToTensor", "SaturateCast", "Scatter", "ScatterUpdate", "Slice", "SliceUpdate"),
        *("StopGradient", "Unstack"),
    },
    "keras.src.ops.nn": {
        *("AdaptiveAveragePool", "AdaptiveMaxPool", "AveragePool", "BatchNorm", "BinaryCrossentropy"),
        *("CTCLoss", "CategoricalCrossentropy", "Celu", "Conv", "ConvTranspose", "DepthToSpace"),
        *("DepthwiseConv", "DotProductAttention", "Elu", "Fold", "Gelu", "Glu", "HardShrink"),
        *("HardSigmoid", "HardSilu", "HardTanh", "LayerNorm", "LeakyRelu", "LogSigmoid", "LogSoftmax"),
        *("MaxPool", "Moments", "MultiHot", "Normalize", "OneHot", "PSNR", "Polar", "RMSNorm", "Relu"),
        *("Relu6", "Selu", "SeparableConv", "Sigmoid", "Silu", "SoftShrink", "Softmax", "Softplus"),
        *("Softsign", "SpaceToDepth", "SparseCategoricalCrossentropy", "SparsePlus", "SparseSigmoid"),
        *("Sparsemax", "Squareplus", "TanhShrink", "Threshold", "Unfold"),
    },
    "keras.src.ops.math": {
        *("CDist", "Erf", "Erfc", "Erfinv", "ExtractSequences", "FFT", "FFT2", "IFFT2", "IRFFT"),
        *("InTopK", "Logdet", "Logsumexp", "RFFT", "Rsqrt", "STFT", "SegmentMax", "SegmentMin"),
        *("SegmentProd", "SegmentSum", "TopK", "ViewAsComplex", "ViewAsReal"),
    },
    "keras.src.ops.linalg": {
        *("Cholesky", "CholeskyInverse", "Det", "Eig", "Eigh", "Inv", "Lstsq", "LuFactor", "MatrixRank"),
        *("Norm", "Pinv", "Qr", "SVD", "Solve", "SolveTriangular"),
    },
    "keras.src.ops.image": {
        *("AffineTransform", "CropImages", "ExtractPatches", "GaussianBlur", "HSVToRGB"),
        *("MapCoordinates", "PadImages", "PerspectiveTransform", "RGBToGrayscale", "RGBToHSV", "Resize"),
        *("SobelEdges",),
    },
    "keras.src.ops.einops": {
        *("Rearrange",),
    },
}
"""The operations of ``keras.ops`` that are opened, by the module under which Keras writes them: they only
compute, and how much they make is known from the shapes that they take."""

_APPLICATIONS: Final = {"keras.src.applications.convnext": {"LayerScale", "StochasticDepth"}}
"""What some of ``keras.applications`` have beside layers of Keras."""


def check_can_be_opened(model: "keras.Model") -> None:
    """Makes sure that what is saved of a model can be opened again, before it is trained.

    The model is described as in a file, and, unless it is made of usual layers in a usual way, made again from this
    description, without weights. It is not changed.

    Args:
        model: A model, trained or not.

    Raises:
        CourseError: It cannot be opened; the message names the layer or operation, and what to do.

    Example:
        >>> import keras
        >>> inputs = keras.Input((4,))
        >>> check_can_be_opened(keras.Model(inputs, keras.layers.Lambda(abs, name="positive")(inputs)))
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: the model cannot be opened again once it is saved: it has a 'Lambda' of
        'keras.layers' (positive), and it holds code of its own, which is not run; write it with layers of Keras and
        keras.ops; or keep only its weights, by model.save_weights
    """
    import keras

    try:
        if type(model).__name__ not in _NETS or not isinstance(model, keras.Model):
            raise CourseError(
                f"it is a {type(model).__name__}, and no file describes the layers of a subclass of keras.Model; build "
                "it with the functional API"
            )
        with without_training(model):
            _check_quantization(model)
            description = describe(model)
        check_description(description)
        if is_plain(model) and not may_be_larger(model, LARGEST_OUTPUT):
            return
        with global_state_restored():
            opened, _ = rebuild(description)
            if len(opened.weights) != len(model.weights):
                raise CourseError(
                    f"it has {len(model.weights)} weights, and a file would ask for {len(opened.weights)}; use a layer "
                    "that is shared directly, and not inside of two others"
                )
            if opened.built and may_be_larger(opened, LARGEST_OUTPUT):
                check_outputs(opened)
    except Exception as error:  # what cannot be described makes Keras raise nearly anything
        raise CourseError(
            f"the model cannot be opened again once it is saved: {reason_of(error)}; "
            "or keep only its weights, by model.save_weights"
        ) from (None if isinstance(error, CourseError) else error)


def check_description(description: Any) -> None:
    """Makes sure that a model is described in layers of Keras and of this course, and in nothing else.

    Args:
        description: What is in the ``config.json`` of a file.

    Raises:
        CourseError: It has something else; the message names it.
    """
    if not isinstance(description, dict) or str(description.get("class_name")) not in _NETS:
        raise CourseError(f"its config.json describes no net; it has to be one of {' and '.join(_NETS)}")
    # compile settings are not read
    without_settings = {name: value for name, value in description.items() if name != "compile_config"}
    for node, is_step in _nodes(without_settings):
        if is_step:
            _check_calls(node)
        if "class_name" in node:
            _check_class(node, is_step=is_step)


def check_outputs(model: "keras.Model") -> None:
    """Makes sure that a model makes no giant of a sample.

    Args:
        model: A built model.

    Raises:
        CourseError: It does; the message names the layer.
    """
    if larger := find_larger(model, LARGEST_OUTPUT):
        name, count = larger
        raise CourseError(f"its layer {name!r} makes {count:,} numbers of a picture; {LARGEST_OUTPUT:,} are allowed")


def register_layers() -> None:
    """Makes the layers of this course known to Keras, which finds them in a file by their names."""
    import keras_course.augmentation
    import keras_course.pretrained.transfer
    import keras_course.randomness  # noqa: F401


def _check_class(node: dict[str, Any], *, is_step: bool) -> None:
    """Makes sure that what a part of a description is made of is on the list."""
    name, module, registered = node["class_name"], node.get("module"), node.get("registered_name")
    if module is None and registered is None and name in (_TENSOR, *_PARTS_OF_KEYS):
        return
    if module is None and registered is None and name in _ARRAYS:
        _check_array(node)
        return
    if isinstance(registered, str) and registered.startswith(_OF_THE_COURSE):
        import keras

        register_layers()
        # by another name, Keras could find something else
        if registered != f"{_OF_THE_COURSE}{name}" or keras.saving.get_registered_object(registered) is None:
            raise CourseError(f"it has a {registered!r}, which this version of the course does not have")
        return
    if isinstance(name, str) and isinstance(module, str) and registered in (None, name):
        if name in _known_classes().get(module, ()):
            return
        if name in ALLOWED_OPERATIONS.get(module, ()) and is_step:
            return
    raise CourseError(f"it has a {name!r} of {module!r}{_called(node)}{_reason(name, module)}")


def _called(node: dict[str, Any]) -> str:
    """The name of a layer, as the person knows it."""
    settings = node.get("config")
    name = settings.get("name") if isinstance(settings, dict) else None
    return f" ({name})" if isinstance(name, str) and len(name) < 100 else ""


def _reason(name: Any, module: Any) -> str:
    where = str(module)
    reasons = REFUSED_LAYERS if where == "keras.layers" else REFUSED_OPERATIONS if ".ops." in where else {}
    return f", and {reasons[name]}" if isinstance(name, str) and name in reasons else f"; {_UNKNOWN}"


def _check_calls(step: dict[str, Any]) -> None:
    """Makes sure that a layer or operation is only called on what other layers give.

    On numbers alone Keras would compute at once, before it is known how many come of it.
    """
    calls = step.get("inbound_nodes", [])
    if not isinstance(calls, list):
        raise CourseError("it has a layer whose inputs are no list")
    for call in calls:
        is_older = isinstance(call, list) and call  # how Keras 2 wrote which outputs a layer takes
        if not is_older and not (isinstance(call, dict) and _has_tensor([call.get("args"), call.get("kwargs")])):
            raise CourseError(f"it has a {step.get('class_name')!r}{_called(step)} that takes no layer's output")


def _check_array(node: dict[str, Any]) -> None:
    """Makes sure that an array is one of numbers, as many as are written there."""
    settings = node.get("config")
    if not isinstance(settings, dict) or set(settings) != {"value", "dtype"} or settings["dtype"] not in _NUMBERS:
        raise CourseError("it has an array whose numbers are of no known kind")
    try:
        is_number = np.asarray(settings["value"]).dtype.kind in "biuf"
    except (ValueError, OverflowError):  # rows of different lengths, integers of hundreds of digits
        is_number = False
    if not is_number:
        raise CourseError("it has an array that is not made of numbers")


def _check_quantization(model: "keras.Model") -> None:
    for layer in keras_private.all_layers(model):
        if getattr(layer, "quantization_mode", None) is not None:
            raise CourseError(f"its layer {layer.name!r} is quantized, which is not opened; save it before quantizing")


@cache
def _known_classes() -> dict[str, set[str]]:
    """What a layer may be made of, by the module under which Keras writes it."""
    import keras

    def classes(module: Any) -> set[str]:
        return {name for name, value in vars(module).items() if isinstance(value, type)}

    parts: dict[str, set[str]] = {
        "keras.layers": classes(keras.layers) - set(REFUSED_LAYERS),
        "keras": {*_NETS, "DTypePolicy"},
        "keras.src.models.functional": {"Functional"},
        "keras.models": {"Sequential"},
        **_APPLICATIONS,
    }
    for kind in ("initializers", "regularizers", "constraints", "dtype_policies"):
        parts[f"keras.{kind}"] = classes(getattr(keras, kind))
    return parts


def _nodes(description: Any) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yields each dictionary of a description, and whether it is a step of a net: a layer or an operation."""
    waiting: list[Any] = [description]
    steps: set[int] = set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(node)
        elif isinstance(node, dict):
            yield node, id(node) in steps
            settings = node.get("config")
            if node.get("class_name") in _NETS and isinstance(settings, dict):
                layers = settings.get("layers")
                steps.update(map(id, layers if isinstance(layers, list) else ()))
            if not (node.get("class_name") in _ARRAYS and isinstance(settings, dict)):  # of nothing but numbers
                waiting.extend(node.values())


def _has_tensor(arguments: Any) -> bool:
    """Says whether a layer's output is among some arguments, and not only in the settings of one of them."""
    waiting = [arguments]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(node)
        elif isinstance(node, dict) and "class_name" not in node:
            waiting.extend(node.values())
        elif isinstance(node, dict) and node["class_name"] == _TENSOR and "config" in node:
            return True
    return False
