"""The layers and operations that an untrusted model file may contain.

Keras' safe mode refuses lambdas, but still looks up any name in its own modules, such as functions that download files
or open other models. So everything that is not on this list is refused: when a file is opened, and before the training
of a model whose file could not be opened.
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
"""The largest output of a layer for one sample."""

_OF_THE_COURSE: Final = "keras_course>"
_NETS: Final = ("Functional", "Sequential")
_TENSOR: Final = "__keras_tensor__"
"""The pseudo-class with which Keras writes a reference to the output of a layer."""
_ARRAYS: Final = ("__numpy__", "__tensor__")
"""The pseudo-classes with which Keras writes arrays and tensors."""
_SLICES: Final = ("__slice__", "__ellipsis__")
"""The pseudo-classes with which Keras writes slices, as in x[..., 1:]."""
_NUMBERS: Final = {
    *("bool", "bfloat16", "float16", "float32", "float64"),
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
}

_CODE: Final = "it contains code, which is not run; write it with layers of Keras and keras.ops"
_FILES: Final = "it can read any file; use it before the model, on the data"
_UNKNOWN: Final = "only layers of Keras and of this course are opened; use these and keras.ops"
_NO_LIMIT: Final = "the size of its output depends on the values of its input; use another operation"

REFUSED_LAYERS: Final = {
    **dict.fromkeys(("Lambda", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"), _CODE),
    **dict.fromkeys(("Wrapper", "Layer"), "it is a base class; use a layer derived from it"),
    **dict.fromkeys(("TextVectorization", "StringLookup", "IntegerLookup", "TFSMLayer"), _FILES),
    "MelSpectrogram": "it makes a table of any size that is no weight; use it before the model, on the data",
}
"""The layers of Keras that are refused, and why."""

REFUSED_OPERATIONS: Final = {
    **dict.fromkeys(
        ("Map", "Scan", "AssociativeScan", "Switch", "WhileLoop", "ForiLoop", "Cond", "VectorizedMap", "JVP"), _CODE
    ),
    **dict.fromkeys(("Arange", "Bincount", "Nonzero", "Unique", "SegmentReduction"), _NO_LIMIT),
    "Diff": "it can repeat without a limit; subtract slices, x[:, 1:] - x[:, :-1]",
    "EmptyLike": "it shows uninitialized memory; use zeros_like",
    "Rot90": "Keras cannot call it again once it is saved; use transpose and flip",
    "ElasticTransform": "it has its own random generator; use a layer for augmentation",
    **dict.fromkeys(
        ("CTCDecode", "ISTFT", "ScaleAndTranslate", "SSIM"),
        "it can need far more memory than its output; use it after the model",
    ),
}
"""The operations of ``keras.ops`` that are refused, and why."""

ALLOWED_OPERATIONS: Final = {
    f"keras.src.ops.{module}": set(names.split())
    for module, names in {
        "numpy": """
            Abs Absolute Add All AllClose Amax Amin Angle Any Append Arccos Arccosh Arcsin Arcsinh Arctan Arctan2
            Arctanh Argmax Argmin Argpartition Argsort Array ArraySplit Average BitwiseAnd BitwiseInvert
            BitwiseLeftShift BitwiseNot BitwiseOr BitwiseRightShift BitwiseXor BroadcastTo Cbrt Ceil Clip Concatenate
            Conj Conjugate Copy Corrcoef Correlate Cos Cosh CountNonzero Cross Cumprod Cumsum Deg2rad Diag Diagflat
            Diagonal Digitize Divide DivideNoNan Dot Dsplit Dstack Einsum Equal Exp Exp2 ExpandDims Expm1 Fabs Flip
            Fliplr Flipud Floor FloorDivide Fmax Fmin Fmod Full FullLike Gcd Geomspace GetItem Greater GreaterEqual
            Heaviside Histogram Hsplit Hstack Hypot I0 Imag Inner IsIn Isclose Isfinite Isinf Isnan Isneginf Isposinf
            Isreal Kron Lcm Ldexp LeftShift Less LessEqual Linspace Log Log10 Log1p Log2 Logaddexp Logaddexp2 LogicalAnd
            LogicalNot LogicalOr LogicalXor Logspace Matmul Max Maximum Mean Median Meshgrid Min Minimum Mod Moveaxis
            Multiply NanToNum Nanargmax Nanargmin Nancumprod Nancumsum Nanmax Nanmean Nanmedian Nanmin Nanpercentile
            Nanprod Nanquantile Nanstd Nansum Nanvar Ndim Negative Nextafter NotEqual OnesLike Outer Pad Percentile
            Power Prod Ptp Quantile Rad2deg Ravel Real Reciprocal Repeat Reshape RightShift Roll Round SearchSorted
            Select Sign Signbit Sin Sinc Sinh Size Slogdet Sort Split Sqrt Square Squeeze Stack Std Subtract Sum
            Swapaxes Take TakeAlongAxis Tan Tanh Tensordot Tile Trace Transpose Trapezoid Tril Triu TrueDivide Trunc
            UnravelIndex Vander Var Vdot View Vsplit Vstack Where ZerosLike
        """,
        "core": "Cast ConvertToTensor SaturateCast Scatter ScatterUpdate Slice SliceUpdate StopGradient Unstack",
        "nn": """
            AdaptiveAveragePool AdaptiveMaxPool AveragePool BatchNorm BinaryCrossentropy CTCLoss CategoricalCrossentropy
            Celu Conv ConvTranspose DepthToSpace DepthwiseConv DotProductAttention Elu Fold Gelu Glu HardShrink
            HardSigmoid HardSilu HardTanh LayerNorm LeakyRelu LogSigmoid LogSoftmax MaxPool Moments MultiHot Normalize
            OneHot PSNR Polar RMSNorm Relu Relu6 Selu SeparableConv Sigmoid Silu SoftShrink Softmax Softplus Softsign
            SpaceToDepth SparseCategoricalCrossentropy SparsePlus SparseSigmoid Sparsemax Squareplus TanhShrink
            Threshold Unfold
        """,
        "math": """
            CDist Erf Erfc Erfinv ExtractSequences FFT FFT2 IFFT2 IRFFT InTopK Logdet Logsumexp RFFT Rsqrt STFT
            SegmentMax SegmentMin SegmentProd SegmentSum TopK ViewAsComplex ViewAsReal
        """,
        "linalg": """
            Cholesky CholeskyInverse Det Eig Eigh Inv Lstsq LuFactor MatrixRank Norm Pinv Qr SVD Solve SolveTriangular
        """,
        "image": """
            AffineTransform CropImages ExtractPatches GaussianBlur HSVToRGB MapCoordinates PadImages
            PerspectiveTransform RGBToGrayscale RGBToHSV Resize SobelEdges
        """,
        "einops": "Rearrange",
    }.items()
}
"""The allowed operations of ``keras.ops``, by the module under which Keras writes them. They only compute, and the size
of their output follows from the shapes of their inputs."""

_APPLICATIONS: Final = {"keras.src.applications.convnext": {"LayerScale", "StochasticDepth"}}
"""Further layers of some models in ``keras.applications``."""


def check_can_be_opened(model: "keras.Model") -> None:
    """Checks that a model, trained or not, can be opened again once it is saved; the model is not changed.

    It is described as in a file, and rebuilt without weights unless it has only usual layers.
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
    except Exception as error:  # Keras can raise nearly anything for it
        raise CourseError(
            f"the model cannot be opened again once it is saved: {reason_of(error)}; "
            "or keep only its weights, by model.save_weights"
        ) from (None if isinstance(error, CourseError) else error)


def check_description(description: Any) -> None:
    """Checks that the content of a ``config.json`` has only layers and operations of this list."""
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
    """Checks that no layer of a built model has too large an output for one sample."""
    if larger := find_larger(model, LARGEST_OUTPUT):
        name, count = larger
        raise CourseError(f"its layer {name!r} makes {count:,} numbers for one sample; {LARGEST_OUTPUT:,} are allowed")


def register_layers() -> None:
    """Registers the layers of this course with Keras, which finds them in a file by their names."""
    import keras_course.augmentation
    import keras_course.models.bert
    import keras_course.models.transformer
    import keras_course.pretrained.transfer
    import keras_course.randomness  # noqa: F401


def _check_class(node: dict[str, Any], *, is_step: bool) -> None:
    """Checks that the class of a part of a description is on the list."""
    name, module, registered = node["class_name"], node.get("module"), node.get("registered_name")
    if module is None and registered is None and name in (_TENSOR, *_SLICES):
        return
    if module is None and registered is None and name in _ARRAYS:
        _check_array(node)
        return
    if isinstance(registered, str) and registered.startswith(_OF_THE_COURSE):
        import keras

        register_layers()
        # by another name, Keras could find another class
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
    """Returns the name of a layer in parentheses, if it has one."""
    settings = node.get("config")
    name = settings.get("name") if isinstance(settings, dict) else None
    return f" ({name})" if isinstance(name, str) and len(name) < 100 else ""


def _reason(name: Any, module: Any) -> str:
    where = str(module)
    reasons = REFUSED_LAYERS if where == "keras.layers" else REFUSED_OPERATIONS if ".ops." in where else {}
    return f", and {reasons[name]}" if isinstance(name, str) and name in reasons else f"; {_UNKNOWN}"


def _check_calls(step: dict[str, Any]) -> None:
    """Checks that a layer or operation is called only on outputs of other layers.

    Keras would compute on constants at once, before the size of the output is checked.
    """
    calls = step.get("inbound_nodes", [])
    if not isinstance(calls, list):
        raise CourseError("it has a layer whose inputs are no list")
    for call in calls:
        is_older = isinstance(call, list) and call  # the form of Keras 2
        if not is_older and not (isinstance(call, dict) and _has_tensor([call.get("args"), call.get("kwargs")])):
            raise CourseError(f"it has a {step.get('class_name')!r}{_called(step)} that takes no layer's output")


def _check_array(node: dict[str, Any]) -> None:
    """Checks that an array is made of numbers."""
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
    """Returns the allowed classes, by the module under which Keras writes them."""
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
    """Yields each dictionary of a description, and True if it is a layer or an operation."""
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
            if not (node.get("class_name") in _ARRAYS and isinstance(settings, dict)):  # they contain only numbers
                waiting.extend(node.values())


def _has_tensor(arguments: Any) -> bool:
    """Returns True if a layer's output is among some arguments, and not only in the settings of one of them."""
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
