"""The OpenAPI description of ``keras-course serve``, from the same limits that are checked.

FastAPI would generate it, but takes twice as long to start as Starlette (measured), so the service does without.
"""

from typing import Any, Final

import keras_course
from keras_course.deployment.guard import RequestLimits

PICTURE: Final = "picture"
"""The name of the form's field."""
PICTURE_TYPES: Final = ("image/jpeg", "image/png", "image/webp", "image/bmp", "application/octet-stream")
BATCH_TYPE: Final = "application/x-npy"
FORM_TYPE: Final = "multipart/form-data"
JSON_TYPE: Final = "application/json"
TEXT_TYPE: Final = "text/plain"
TEXTS: Final = "texts"
"""The name of the list of texts in a JSON body."""
DECIMALS: Final = 6
"""Decimals of the numbers in an answer: float32 has not many more, and more take longer to write and to read."""

_NUMBER: Final = {"type": "number"}
_TEXT: Final = {"type": "string"}
_BINARY: Final = {"type": "string", "format": "binary"}
_ROUNDED: Final = {**_NUMBER, "description": f"to {DECIMALS} decimals"}


def openapi(limits: RequestLimits, classes: int) -> dict[str, Any]:
    """Returns the OpenAPI description of the service for pictures, the document of ``/openapi.json``."""
    prediction = _object(
        {
            "picture": _TEXT,
            "answers": _answers(classes),
            "logits": _array(_ROUNDED, minItems=classes, maxItems=classes),
        },
        optional=("logits",),
    )
    batch = f"uint8 (n, height, width, channels) as /metadata says, n from 1 to {limits.rows}"
    bodies: dict[str, Any] = {
        **{kind: {"schema": {**_BINARY, "maxLength": limits.body_bytes}} for kind in PICTURE_TYPES},
        FORM_TYPE: {"schema": _object({PICTURE: _array(_BINARY, maxItems=limits.pictures)})},
        BATCH_TYPE: {"schema": {**_BINARY, "description": batch}},
    }
    body = {"requestBody": {"required": True, "content": bodies}}
    summary = "The most probable classes of each picture."
    explanation = {
        "class": _TEXT,
        "method": {**_TEXT, "enum": ["Grad-CAM", "occlusion"]},
        "heat": _array(_array(_NUMBER)),
        "prepared": _TEXT,
        "milliseconds": _NUMBER,
    }
    explain = _operation("How much each pixel contributes to the answer.", explanation, **body)
    predict = _predict(summary, prediction, body, classes, most=classes)
    return _document({"/predict": {"post": predict}, "/explain": {"post": explain}})


def text_openapi(limits: RequestLimits, classes: int, most: int) -> dict[str, Any]:
    """Returns the OpenAPI description of the service for texts; a client may ask for ``most`` of the classes."""
    text = {**_TEXT, "minLength": 1, "maxLength": limits.characters}
    prediction = _object(
        {
            "text": _TEXT,
            "note": {**_TEXT, "description": "what to know of the answer, such as that the text has been cut"},
            "tokens": _array(_TEXT),
            "answers": _answers(most),
            "logits": _array(_ROUNDED, minItems=classes, maxItems=classes),
        },
        optional=("note", "tokens", "logits"),
    )
    bodies = {
        JSON_TYPE: {"schema": _object({TEXTS: _array(text, minItems=1, maxItems=limits.texts)})},
        TEXT_TYPE: {"schema": {**text, "description": "one text, in UTF-8"}},
    }
    body = {"requestBody": {"required": True, "content": bodies}}
    predict = _predict("The most probable classes of each text.", prediction, body, classes, most=most)
    predict["parameters"] += [_query(name, _SWITCH) for name in ("tokens", "cut")]
    return _document({"/predict": {"post": predict}})


def _document(posts: dict[str, Any]) -> dict[str, Any]:
    """Returns a description of the paths of a service, and of those that all services have."""
    card = {"title": _TEXT, "class_names": _array(_TEXT)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "keras-course serve", "version": keras_course.__version__},
        "paths": {
            **posts,
            "/metadata": {"get": _operation("The model's card.", card)},
            "/health": {"get": _operation("The status of the service.", {"status": _TEXT})},
            "/openapi.json": {"get": _operation("This document.", {"openapi": _TEXT})},
        },
    }


_SWITCH: Final = {"type": "boolean", "default": False}


def _predict(
    summary: str, prediction: dict[str, Any], body: dict[str, Any], classes: int, *, most: int
) -> dict[str, Any]:
    """Returns the operation that answers with classes."""
    parameters = [_query("top", {"type": "integer", "minimum": 1, "maximum": most}), _query("logits", _SWITCH)]
    predictions = {"predictions": _array(prediction), "milliseconds": _NUMBER}
    predict = _operation(summary, predictions, **body, parameters=parameters)
    # in answer to "Accept: application/x-npy"
    array = {**_BINARY, "description": f"the logits, float32 (n, {classes}), in NumPy's .npy format"}
    predict["responses"]["200"]["content"][BATCH_TYPE] = {"schema": array}
    return predict


def _answers(most: int) -> dict[str, Any]:
    probability = {**_ROUNDED, "minimum": 0, "maximum": 1}
    return _array(_object({"class": _TEXT, "probability": probability}), maxItems=most)


_ERROR: Final = "The error and its remedy."
_GET_ERRORS: Final = ("421",)
_POST_ERRORS: Final = ("400", "403", "408", "413", "415", "421", "422", "500", "503")


def _operation(summary: str, properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Returns an operation that answers with a JSON object; ``more`` has its body and its parameters."""
    error = _response(_ERROR, _object({"error": _TEXT}))
    errors = dict.fromkeys(_POST_ERRORS if more else _GET_ERRORS, error)
    return {"summary": summary, "responses": {"200": _response(summary, _object(properties)), **errors}, **more}


def _response(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": properties}


def _array(items: dict[str, Any], **more: int) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema}
