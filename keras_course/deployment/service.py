"""The routes of ``keras-course serve``: take pictures over HTTP, and answer in JSON.

No input is trusted: ``guard`` counts and times each request, and ``bodies`` lets other processes decode the pictures.
"""

import asyncio
import base64
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from keras_course.deployment.answers import check_logits, most_probable
from keras_course.deployment.bodies import BodyReader
from keras_course.deployment.guard import FEW_BYTES, AccessLog, Guard, Log, PartedResponse, Places, RequestLimits
from keras_course.deployment.micro_batches import MicroBatches, joined
from keras_course.deployment.occlusion import PLACES, covered, heat_of
from keras_course.deployment.openapi import BATCH_TYPE, DECIMALS, openapi
from keras_course.deployment.runtimes import Runtime
from keras_course.pages import assemble

_FEW_NUMBERS: Final = 1024
"""An answer of at most so many numbers is written in one piece, which blocks the event loop."""
_MOST_EXPLANATIONS: Final = 16
"""The number of explanations that may wait; they are computed one at a time."""
_COVERED_BYTES: Final = 2**24
"""The size of the covered pictures that are made at once."""
_PAGE: Final = Path(__file__).parent / "page"
_DOCS: Final = Path(__file__).parent / "docs"


class Service:
    """A model that answers requests."""

    def __init__(self, runtime: Runtime, limits: RequestLimits) -> None:
        self.runtime = runtime
        self.limits = limits
        run_async = None if runtime.process is None else self._logits_async
        self.batches = MicroBatches(self._logits, batch_size=limits.batch_size, run_async=run_async)
        self.bodies = BodyReader(runtime.card.picture_format, limits)
        self.places = Places(limits)
        self._explanations = 0
        self._explaining = asyncio.Lock()
        self._heads = [f'{{"class":{json.dumps(name)},"probability":' for name in runtime.card.class_names]

    def warm_up(self) -> None:
        """Runs each batch size once, so that no request waits for a compilation."""
        shape = self.runtime.card.picture_format.shape
        if self.runtime.compiled:
            self.runtime.heat(np.zeros(shape, "uint8"), 0)
        for power in range(self.limits.batch_size.bit_length()):
            self.runtime.logits(np.zeros((2**power, *shape), "uint8"))

    def _logits(self, pictures: np.ndarray) -> np.ndarray:
        return joined([self.runtime.logits(part) for part in self._parts(pictures)])

    async def _logits_async(self, pictures: np.ndarray) -> np.ndarray:
        return joined([await self.runtime.logits_async(part) for part in self._parts(pictures)])

    def _parts(self, pictures: np.ndarray) -> list[np.ndarray]:
        """Splits pictures into batches of the sizes that Keras has compiled."""
        most = self.limits.batch_size if self.runtime.compiled else len(pictures)
        return [pictures[start : start + most] for start in range(0, len(pictures), most)]

    async def predict(self, request: Request) -> Response:
        """Answers with the most probable classes of each picture, or with the logits as an array."""
        started = time.perf_counter()
        classes = len(self.runtime.card.class_names)
        top = _whole_number(request, "top", default=min(3, classes), largest=classes)
        wants_logits = request.query_params.get("logits", "false") in ("true", "1")
        names, pictures = await self.bodies.read(request)
        logits = await self.batches.logits(pictures)
        if request.headers.get("accept", "").strip().lower() == BATCH_TYPE:
            array = _npy(logits)
            if len(array) <= FEW_BYTES:
                return Response(array, media_type=BATCH_TYPE)
            parts = (array[start : start + FEW_BYTES] for start in range(0, len(array), FEW_BYTES))
            return PartedResponse(request, parts, BATCH_TYPE, held=len(array), length=len(array))
        check_logits(logits)  # an answer that has begun cannot become an error
        numbers = 1 + top + classes * wants_logits
        step = max(1, _FEW_NUMBERS // numbers)

        def parts_of_json() -> Iterator[str]:
            for start in range(0, len(names), step):
                some = slice(start, start + step)
                head = "," if start else '{"predictions":['
                yield head + ",".join(self._in_json(names[some], logits[some], top, wants_logits))
            yield f'],"milliseconds":{_milliseconds(started)}}}'

        return _json(request, parts_of_json(), numbers=len(names) * numbers, held=logits.nbytes)

    def _in_json(self, names: Sequence[str], logits: np.ndarray, top: int, wants_logits: bool) -> Iterator[str]:
        """Yields the JSON text for each picture; the module ``json`` would take three times as long."""
        numbers, probabilities = most_probable(logits, top=top)
        shares = probabilities.round(DECIMALS)
        rows = logits.astype("float64").round(DECIMALS).tolist() if wants_logits else names
        for name, classes, row, scores in zip(names, numbers.tolist(), shares.tolist(), rows, strict=True):
            answers = "},".join([f"{self._heads[number]}{share}" for number, share in zip(classes, row, strict=True)])
            more = f',"logits":{scores}' if wants_logits else ""
            yield f'{{"picture":{json.dumps(name)},"answers":[{answers}}}]{more}}}'

    async def explain(self, request: Request) -> Response:
        """Answers with the class of a picture, and how much each pixel contributes to it."""
        started = time.perf_counter()
        self._check_explanations()
        _, pictures = await self.bodies.read(request)
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
        card = self.runtime.card
        return JSONResponse(
            {
                "title": card.title,
                "class_names": list(card.class_names),
                "pictures": card.picture_format.to_dict(),
                "data": card.data,
                "limits": card.limits,
                "license": card.license,
                "metrics": dict(card.metrics),
                "training": dict(card.training),
                "format": self.runtime.format,
                "runtime": self.runtime.name,
            }
        )

    async def health(self, request: Request) -> Response:
        """Answers with the status of the service."""
        return JSONResponse({"status": "ok", "requests": self.places.taken})

    async def describe(self, request: Request) -> Response:
        """Answers with the OpenAPI description."""
        return JSONResponse(openapi(self.limits, len(self.runtime.card.class_names)))


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
    service = Service(runtime, limits or RequestLimits())

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await asyncio.get_running_loop().run_in_executor(None, service.warm_up)
        service.bodies.decoders.start()  # not earlier, when the model needs the processors
        yield
        await service.bodies.decoders.close()
        service.batches.close()

    def show(document: str) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            return HTMLResponse(document, headers={"Content-Security-Policy": "frame-ancestors 'none'"})

        return answer

    async def in_json(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)

    async def broken(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": "the model could not answer; the service goes on"}, 500)

    app = Starlette(
        routes=[
            Route("/", show(page(runtime, service.limits))),
            Route("/predict", service.predict, methods=["POST"]),
            Route("/explain", service.explain, methods=["POST"]),
            Route("/metadata", service.metadata),
            Route("/health", service.health),
            Route("/openapi.json", service.describe),
            Route("/docs", show(documentation(service.limits, len(runtime.card.class_names)))),
        ],
        lifespan=lifespan,
        exception_handlers={HTTPException: in_json, Exception: broken},
    )
    guarded = Guard(app, service.limits, service.places, hosts, origins)
    return guarded if log is None else AccessLog(guarded, log)


def page(runtime: Runtime, limits: RequestLimits) -> str:
    """Returns the HTML page on which a person draws, drops a photo or uses the camera."""
    card = runtime.card
    data = {
        "title": card.title,
        "facts": {
            "trained on": card.data,
            "made for": card.limits,
            "accuracy": f"{card.metrics['accuracy']:.2%} on new pictures" if "accuracy" in card.metrics else "",
            "classes": ", ".join(card.class_names[:30]) + (", …" if len(card.class_names) > 30 else ""),
            "takes": " × ".join(map(str, card.picture_format.shape)),
            "runs on": runtime.name,
            "license": card.license,
        },
        "draw": card.picture_format.drawing,
        "classes": len(card.class_names),
        "largest": limits.body_bytes,
    }
    allow = "img-src data: blob:; media-src blob: mediastream:; connect-src 'self'; form-action 'none'; base-uri 'none'"
    return assemble(_PAGE, scripts=["page.js"], data=data, allow=allow)


def documentation(limits: RequestLimits, classes: int) -> str:
    """Returns the HTML page with the OpenAPI description for programmers."""
    allow = "img-src data:; form-action 'none'; base-uri 'none'"
    return assemble(_DOCS, scripts=["page.js"], data=openapi(limits, classes), allow=allow)


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
