"""The routes of ``keras-course serve``: take pictures or texts over HTTP, and answer in JSON.

No input is trusted: ``guard`` counts and times each request, ``bodies`` lets other processes decode the pictures, and
``text_service`` has what is different for texts.
"""

import asyncio
import base64
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from keras_course.deployment.answers import check_logits, most_probable
from keras_course.deployment.bodies import BodyReader, Pictures
from keras_course.deployment.guard import FEW_BYTES, AccessLog, Guard, Log, PartedResponse, Places, RequestLimits
from keras_course.deployment.micro_batches import MicroBatches, joined
from keras_course.deployment.occlusion import PLACES, covered, heat_of
from keras_course.deployment.openapi import BATCH_TYPE, DECIMALS, openapi
from keras_course.deployment.runtimes import Runtime
from keras_course.errors import CourseError
from keras_course.pages import assemble

if TYPE_CHECKING:
    from keras_course.deployment.text_service import TextReader, Texts

_FEW_NUMBERS: Final = 1024
"""An answer of at most so many numbers is written in one piece, which blocks the event loop."""
_MOST_EXPLANATIONS: Final = 16
"""The number of explanations that may wait; they are computed one at a time."""
_CLASSES_FOR_NUMBER: Final = 256
"""Finding the most probable of so many classes takes as long as writing a number."""
_COVERED_BYTES: Final = 2**24
"""The size of the covered pictures that are made at once."""
_PAGE: Final = Path(__file__).parent / "page"
_DOCS: Final = Path(__file__).parent / "docs"


class Service:
    """A model that answers requests."""

    inputs = "pictures"

    def __init__(self, runtime: Runtime, limits: RequestLimits) -> None:
        self.runtime = runtime
        self.limits = limits
        run_async = None if runtime.process is None else self._logits_async
        self.batches = MicroBatches(self._logits, batch_size=limits.batch_size, run_async=run_async)
        self.bodies: BodyReader | TextReader = self.reader()
        self.places = Places(limits)
        self._explanations = 0
        self._explaining = asyncio.Lock()
        self._heads = [f'{{"class":{json.dumps(name)},"probability":' for name in runtime.card.class_names]

    @property
    def most_answers(self) -> int:
        """The largest number of classes that a client may ask for."""
        return len(self.runtime.card.class_names)

    def reader(self) -> "BodyReader | TextReader":
        """Returns what reads the bodies of requests."""
        return BodyReader(self.runtime.card.required_picture_format(), self.limits)

    def routes(self) -> list[Route]:
        """Returns the routes of the service."""
        return [
            Route("/", _show(self.page())),
            Route("/predict", self.predict, methods=["POST"]),
            Route("/explain", self.explain, methods=["POST"]),
            Route("/metadata", self.metadata),
            Route("/health", self.health),
            Route("/openapi.json", self.describe),
            Route("/docs", _show(documentation(self.description()))),
        ]

    def warm_up(self) -> None:
        """Runs each batch size once, so that no request waits for a compilation."""
        shape = self.runtime.card.shape
        if self.runtime.compiled:
            self.runtime.heat(np.zeros(shape, "uint8"), 0)
        self._run_batch_sizes("uint8")

    def _run_batch_sizes(self, number_type: str) -> None:
        for power in range(self.limits.batch_size.bit_length()):
            self.runtime.logits(np.zeros((2**power, *self.runtime.card.shape), number_type))

    def _logits(self, inputs: np.ndarray) -> np.ndarray:
        return joined([self.runtime.logits(part) for part in self._parts(inputs)])

    async def _logits_async(self, inputs: np.ndarray) -> np.ndarray:
        return joined([await self.runtime.logits_async(part) for part in self._parts(inputs)])

    def _parts(self, inputs: np.ndarray) -> list[np.ndarray]:
        """Splits inputs into batches of the sizes that Keras has compiled."""
        most = self.limits.batch_size if self.runtime.compiled else len(inputs)
        return [inputs[start : start + most] for start in range(0, len(inputs), most)]

    async def predict(self, request: Request) -> Response:
        """Answers with the most probable classes of each picture or text, or with the logits as an array."""
        started = time.perf_counter()
        classes = len(self.runtime.card.class_names)
        top = _whole_number(request, "top", default=min(3, classes), largest=self.most_answers)
        wants_logits = is_set(request, "logits")
        given = await self.bodies.read(request)
        count = len(given.inputs)
        logits = await self.batches.logits(given.inputs)
        if request.headers.get("accept", "").strip().lower() == BATCH_TYPE:
            array = _npy(logits)
            if len(array) <= FEW_BYTES:
                return Response(array, media_type=BATCH_TYPE)
            parts = (array[start : start + FEW_BYTES] for start in range(0, len(array), FEW_BYTES))
            return PartedResponse(request, parts, BATCH_TYPE, held=len(array), length=len(array))
        check_logits(logits)  # an answer that has begun cannot become an error
        numbers = 1 + top + classes * wants_logits + classes // _CLASSES_FOR_NUMBER
        step = max(1, _FEW_NUMBERS // numbers)

        def parts_of_json() -> Iterator[str]:
            for start in range(0, count, step):
                some = range(start, min(start + step, count))
                head = "," if start else '{"predictions":['
                yield head + ",".join(self._in_json(given, some, logits, top, wants_logits))
            yield f'],"milliseconds":{_milliseconds(started)}}}'

        return _json(request, parts_of_json(), numbers=count * numbers, held=logits.nbytes)

    def _in_json(
        self, given: "Pictures | Texts", some: range, logits: np.ndarray, top: int, wants_logits: bool
    ) -> Iterator[str]:
        """Yields the JSON text for each of some inputs; the module ``json`` would take three times as long."""
        logits = logits[some.start : some.stop]
        numbers, probabilities = most_probable(logits, top=top)
        shares = probabilities.round(DECIMALS)
        rows = logits.astype("float64").round(DECIMALS).tolist() if wants_logits else some
        for place, classes, row, scores in zip(some, numbers.tolist(), shares.tolist(), rows, strict=True):
            answers = "},".join([f"{self._heads[number]}{share}" for number, share in zip(classes, row, strict=True)])
            more = f',"logits":{scores}' if wants_logits else ""
            yield f'{{{given.fields(place)},"answers":[{answers}}}]{more}}}'

    async def explain(self, request: Request) -> Response:
        """Answers with the class of a picture, and how much each pixel contributes to it."""
        started = time.perf_counter()
        self._check_explanations()
        pictures = (await self.bodies.read(request)).inputs
        if len(pictures) != 1:
            raise HTTPException(400, f"{len(pictures)} pictures came; send one to have it explained")
        self._check_explanations()
        self._explanations += 1
        try:
            async with self._explaining:
                label, method, heat = await self._explain(pictures[0])
        finally:
            self._explanations -= 1
        facts = {
            "class": self.runtime.card.class_names[label],
            "method": method,
            "prepared": await asyncio.to_thread(_png, pictures[0]),
        }
        rows = heat.round(3)
        step = max(1, _FEW_NUMBERS // rows.shape[1])

        def parts_of_json() -> Iterator[str]:
            yield json.dumps(facts).removesuffix("}") + ',"heat":['
            for start in range(0, len(rows), step):
                yield ("," if start else "") + json.dumps(rows[start : start + step].tolist())[1:-1]
            yield f'],"milliseconds":{_milliseconds(started)}}}'

        return _json(request, parts_of_json(), numbers=rows.size, held=rows.nbytes)

    def _check_explanations(self) -> None:
        if self._explanations >= _MOST_EXPLANATIONS:
            busy = f"{_MOST_EXPLANATIONS} pictures wait to be explained; retry later"
            raise HTTPException(503, busy, headers={"Retry-After": "1"})

    async def _explain(self, picture: np.ndarray) -> tuple[int, str, np.ndarray]:
        """Returns the class of a picture, the method, and the heat; other requests are computed in between."""
        label = int((await self.batches.logits(picture[None]))[0].argmax())
        if self.runtime.compiled:
            heat = await self.batches.alone(self.runtime.heat, picture, label)
            if heat is not None:
                return label, "Grad-CAM", heat
        count = PLACES * PLACES + 1
        step = min(self.limits.batch_size, max(1, _COVERED_BYTES // picture.nbytes))
        logits = []
        for start in range(0, count, step):
            pictures = covered(picture, range(start, min(start + step, count)))
            logits.append((await self.batches.logits(pictures, is_large=True))[:, label])
        return label, "occlusion", heat_of(np.concatenate(logits), *picture.shape[:2])

    async def metadata(self, request: Request) -> Response:
        """Answers with the model's card."""
        return JSONResponse(self.facts())

    def facts(self) -> dict[str, Any]:
        """Returns what the card says of the model."""
        card = self.runtime.card
        return {
            "title": card.title,
            "class_names": list(card.class_names),
            self.inputs: self.input_format(),
            "data": card.data,
            "limits": card.limits,
            "license": card.license,
            "metrics": dict(card.metrics),
            "training": dict(card.training),
            "format": self.runtime.format,
            "runtime": self.runtime.name,
        }

    def input_format(self) -> dict[str, Any]:
        """Returns the format of the inputs."""
        return self.runtime.card.required_picture_format().to_dict()

    async def health(self, request: Request) -> Response:
        """Answers with the status of the service."""
        return JSONResponse({"status": "ok", "requests": self.places.taken})

    async def describe(self, request: Request) -> Response:
        """Answers with the OpenAPI description."""
        return JSONResponse(self.description())

    def description(self) -> dict[str, Any]:
        """Returns the OpenAPI description."""
        return openapi(self.limits, len(self.runtime.card.class_names))

    def page(self) -> str:
        """Returns the HTML page for people."""
        return page(self.runtime, self.limits)


def make_app(
    runtime: Runtime,
    *,
    limits: RequestLimits | None = None,
    hosts: Sequence[str] = (),
    origins: Sequence[str] = (),
    log: Log | None = None,
) -> ASGIApp:
    """Returns the ASGI application.

    Its ``hosts`` are the names under which it may be called, besides the address of the connection; empty for any.
    Pages of its ``origins`` may send requests, besides its own pages.
    """
    service = _service(runtime, limits or RequestLimits())

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await asyncio.get_running_loop().run_in_executor(None, service.warm_up)
        service.bodies.start()  # not earlier, when the model needs the processors
        yield
        await service.bodies.close()
        service.batches.close()

    async def in_json(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)

    async def broken(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": "the model could not answer; the service goes on"}, 500)

    app = Starlette(
        routes=service.routes(),
        lifespan=lifespan,
        exception_handlers={HTTPException: in_json, Exception: broken},
    )
    guarded = Guard(app, service.limits, service.places, hosts, origins)
    return guarded if log is None else AccessLog(guarded, log, service.inputs)


def _service(runtime: Runtime, limits: RequestLimits) -> Service:
    """Returns the service for the inputs of a model."""
    if runtime.card.outputs == "embedding":
        raise CourseError(f"{runtime.path} gives embeddings, and no classes; serve a model that gives classes")
    if runtime.card.text_format is None:
        return Service(runtime, limits)
    from keras_course.deployment.text_service import TextService

    return TextService(runtime, limits)


def _show(document: str) -> Callable[[Request], Awaitable[Response]]:
    """Returns the function that answers with an HTML page."""

    async def answer(request: Request) -> Response:
        return HTMLResponse(document, headers={"Content-Security-Policy": "frame-ancestors 'none'"})

    return answer


def page(runtime: Runtime, limits: RequestLimits) -> str:
    """Returns the HTML page on which a person draws, drops a photo or uses the camera."""
    card = runtime.card
    picture_format = card.required_picture_format()
    data = {
        "title": card.title,
        "facts": page_facts(runtime, takes=" × ".join(map(str, picture_format.shape))),
        "draw": picture_format.drawing,
        "classes": len(card.class_names),
        "largest": limits.body_bytes,
    }
    allow = "img-src data: blob:; media-src blob: mediastream:; connect-src 'self'; form-action 'none'; base-uri 'none'"
    return assemble(_PAGE, scripts=["shared.js", "page.js"], data=data, allow=allow)


def page_facts(runtime: Runtime, *, takes: str) -> dict[str, str]:
    """Returns the facts on the model that the page shows, by their names; empty ones are not shown."""
    card = runtime.card
    return {
        "trained on": card.data,
        "made for": card.limits,
        "accuracy": f"{card.metrics['accuracy']:.2%} on new {card.kind}s" if "accuracy" in card.metrics else "",
        "classes": ", ".join(card.class_names[:30]) + (", …" if len(card.class_names) > 30 else ""),
        "takes": takes,
        "runs on": runtime.name,
        "license": card.license,
    }


def documentation(description: dict[str, Any]) -> str:
    """Returns the HTML page with the OpenAPI description for programmers."""
    allow = "img-src data:; form-action 'none'; base-uri 'none'"
    return assemble(_DOCS, scripts=["page.js"], data=description, allow=allow)


def is_set(request: Request, name: str) -> bool:
    """Returns True if a parameter of the query is ``true`` or ``1``."""
    return request.query_params.get(name, "false") in ("true", "1")


def _json(request: Request, parts: Iterator[str], *, numbers: int, held: int) -> Response:
    """Returns a JSON answer, in one piece if it holds few numbers."""
    if numbers <= _FEW_NUMBERS:
        return Response("".join(parts), media_type="application/json")
    return PartedResponse(request, (part.encode() for part in parts), "application/json", held=held)


def _whole_number(request: Request, name: str, *, default: int, largest: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= largest):
        raise HTTPException(400, f"{name} is {text[:40]!r}; give a whole number from 1 to {largest}")
    return int(text)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _png(picture: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _milliseconds(started: float) -> float:
    return round(1000 * (time.perf_counter() - started), 2)
