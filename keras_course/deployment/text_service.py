"""What ``keras-course serve`` does differently for texts: the bodies of requests, the answers and the page."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from keras_course.deployment.guard import FEW_BYTES, INPUT_COUNT, PartedResponse, RequestLimits
from keras_course.deployment.openapi import JSON_TYPE, TEXT_TYPE, TEXTS, text_openapi
from keras_course.deployment.runtimes import Runtime
from keras_course.deployment.service import Service, is_set, page_facts
from keras_course.deployment.texts import Encoded, encode_text, marks_of
from keras_course.errors import CourseError, reason_of
from keras_course.pages import assemble
from keras_course.preprocessing.text_format import TextFormat

_FEW_CHARACTERS: Final = 2000
"""Texts of at most so many characters are encoded in the event loop, which takes a millisecond; others in a thread."""
_MOST_ANSWERS: Final = 1000
"""The largest number of classes in an answer; a vocabulary has more."""
_CHARSETS: Final = ("", "utf-8", "utf8", "us-ascii")
_PAGE: Final = Path(__file__).parent / "text_page"


class Texts(NamedTuple):
    """The texts of a body, as the input of the model: int32 (n, sequence_length)."""

    texts: list[str]
    notes: list[str]
    inputs: np.ndarray
    shown: TextFormat | None
    """The format with the names of the tokens, if the client wants them."""

    def fields(self, number: int) -> str:
        """Returns the first fields of the answer for a text, in JSON."""
        fields: dict[str, Any] = {"text": self.texts[number]}
        if self.notes[number]:
            fields["note"] = self.notes[number]
        if self.shown is not None:
            row = self.inputs[number]
            fields["tokens"] = [self.shown.vocabulary[token] for token in row[row != self.shown.pad].tolist()]
        return json.dumps(fields)[1:-1]


class TextReader:
    """Reads bodies, and encodes their texts for the model."""

    def __init__(self, text_format: TextFormat, limits: RequestLimits) -> None:
        self._text_format, self._limits = text_format, limits
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="texts")

    def start(self) -> None:
        """Does nothing: the tables were made when the model was warmed up."""

    async def close(self) -> None:
        """Ends the thread after its current work."""
        self._thread.shutdown()

    async def read(self, request: Request) -> Texts:
        """Returns the texts in a body."""
        kind, parameters = _content_type(request)
        if kind not in (JSON_TYPE, TEXT_TYPE):
            raise HTTPException(415, f"Content-Type is {kind[:80]!r}; send one of {JSON_TYPE}, {TEXT_TYPE}")
        if kind == TEXT_TYPE and (charset := parameters.get("charset", "")) not in _CHARSETS:
            raise HTTPException(415, f"the charset is {charset[:80]!r}; send utf-8")
        try:
            body = await request.body()
        except ClientDisconnect:
            raise HTTPException(400, "the client has gone") from None
        try:
            texts = [_decoded(body)] if kind == TEXT_TYPE else _texts_in_json(body, self._limits.texts)
            cut = is_set(request, "cut")
            if sum(map(len, texts)) <= _FEW_CHARACTERS:
                encoded = self._encode(texts, cut)
            else:
                loop = asyncio.get_running_loop()
                encoded = await loop.run_in_executor(self._thread, self._encode, texts, cut)
        except CourseError as error:
            raise HTTPException(422, str(error)) from None
        request.scope[INPUT_COUNT] = len(texts)
        shown = self._text_format if is_set(request, "tokens") else None
        return Texts(texts, [one.note for one in encoded], np.stack([one.tokens for one in encoded]), shown)

    def _encode(self, texts: list[str], cut: bool) -> list[Encoded]:
        names = [f"text {number}" for number in range(1, len(texts) + 1)] if len(texts) > 1 else ["the text"]
        settings: dict[str, Any] = {"cut": cut, "how_to_cut": "ask with cut=true", "longest": self._limits.characters}
        return [
            encode_text(text, self._text_format, name=name, **settings) for text, name in zip(texts, names, strict=True)
        ]


class TextService(Service):
    """A model that answers requests with texts."""

    inputs = "texts"

    def __init__(self, runtime: Runtime, limits: RequestLimits) -> None:
        super().__init__(runtime, replace(limits, body_bytes=min(limits.body_bytes, limits.text_bytes)))
        self._metadata = json.dumps(self.facts()).encode()

    @property
    def most_answers(self) -> int:
        """The largest number of classes that a client may ask for."""
        return min(len(self.runtime.card.class_names), _MOST_ANSWERS)

    def reader(self) -> TextReader:
        """Returns what reads the bodies of requests."""
        return TextReader(self.runtime.card.required_text_format(), self.limits)

    def routes(self) -> list[Route]:
        """Returns the routes of the service; the reasons for an answer are only shown for pictures."""
        return [route for route in super().routes() if route.path != "/explain"]

    def warm_up(self) -> None:
        """Makes the tables to encode texts, and runs each batch size once."""
        encode_text("[UNK]", self.runtime.card.required_text_format(), cut=True)
        self._run_batch_sizes("int32")

    async def metadata(self, request: Request) -> Response:
        """Answers with the model's card."""
        content = self._metadata
        if len(content) <= FEW_BYTES:
            return Response(content, media_type=JSON_TYPE)
        parts: Iterator[bytes] = (content[start : start + FEW_BYTES] for start in range(0, len(content), FEW_BYTES))
        return PartedResponse(request, parts, JSON_TYPE, held=len(content), length=len(content))

    def input_format(self) -> dict[str, Any]:
        """Returns the format of texts, with the size of the vocabulary in its place."""
        found = self.runtime.card.required_text_format().to_dict()
        return {**found, "vocabulary": len(found["vocabulary"])}

    def description(self) -> dict[str, Any]:
        """Returns the OpenAPI description."""
        return text_openapi(self.limits, len(self.runtime.card.class_names), self.most_answers)

    def page(self) -> str:
        """Returns the HTML page on which a person writes a text."""
        card = self.runtime.card
        text_format = card.required_text_format()
        vocabulary = text_format.vocabulary
        unit, continues = text_format.unit, card.is_language_model
        unknown = vocabulary[text_format.unknown]
        takes = f"up to {text_format.sequence_length:,} {unit}, of {len(vocabulary):,} that it knows"
        data = {
            "title": card.title,
            "facts": {**page_facts(self.runtime, takes=takes), **({"classes": ""} if continues else {})},
            "classes": self.most_answers,
            "longest": self.limits.characters,
            "unit": unit,
            "continues": continues,
            "heading": f"What follows: the next {unit.removesuffix('s')}" if continues else "Answer",
            "hint": "The answer comes while you write." + (" Choose a bar to continue the text." if continues else ""),
            "unknown": unknown,
            "marks": [vocabulary[number] for number in marks_of(text_format)],
            "explanation": f"The text as {unit}; {unknown} is one that the model does not know.",
        }
        allow = "img-src data:; connect-src 'self'; form-action 'none'; base-uri 'none'"
        return assemble(_PAGE, scripts=["../page/shared.js", "page.js"], data=data, allow=allow)


def _content_type(request: Request) -> tuple[str, dict[str, str]]:
    """Returns the type of a body, and its parameters, in lower case."""
    kind, *rest = request.headers.get("content-type", "").lower().split(";")
    pairs = [part.partition("=") for part in rest]
    return kind.strip(), {name.strip(): value.strip().strip('"') for name, _, value in pairs}


def _decoded(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CourseError(f"the text is not valid UTF-8 (byte {error.start + 1}); send UTF-8") from None


def _texts_in_json(body: bytes, most: int) -> list[Any]:
    """Returns the list in a JSON body; what is in it is checked when it is encoded."""
    try:
        found = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or nested too deeply
        raise CourseError(f"the body is no JSON: {reason_of(error)}") from None
    texts = found.get(TEXTS) if isinstance(found, dict) and set(found) == {TEXTS} else None
    if not isinstance(texts, list):
        raise CourseError(f'the body is another JSON; send {{"{TEXTS}": ["...", ...]}}')
    if not 1 <= len(texts) <= most:
        raise CourseError(f"the body has {len(texts):,} texts; send 1 to {most:,}")
    if not all(isinstance(text, str) for text in texts):
        raise CourseError(f"{TEXTS} has something else than texts; send a list of texts")
    return texts
