"""The ASGI application of ``keras-course serve``: pictures come in over HTTP, answers go out as JSON.

It is Starlette's, which starts in half of FastAPI's time; what it takes and gives is described by ``openapi``, whose
limits are those that are checked. Whatever comes in is not trusted: it is counted while it is read, decoded in other
processes with limits, and given up after a time. A request has a place while the service works for it, not while its
client sends or reads. ``connections`` limits what a client can do before and after that.
"""

import asyncio
import base64
import io
import ipaddress
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import keras_course
from keras_course.deployment.answers import check_logits, most_probable
from keras_course.deployment.decoders import Decoders
from keras_course.deployment.micro_batches import MicroBatches
from keras_course.deployment.occlusion import PLACES, covered, heat_of
from keras_course.deployment.runtimes import Runtime
from keras_course.errors import CourseError, check_positive, reason_of
from keras_course.pages import assemble
from keras_course.preprocessing.images import WEB_FORMATS, prepare

PICTURE: Final = "picture"
"""The name of the form's field."""
PICTURE_TYPES: Final = ("image/jpeg", "image/png", "image/webp", "image/bmp", "application/octet-stream")
BATCH_TYPE: Final = "application/x-npy"
FORM_TYPE: Final = "multipart/form-data"

Log = Callable[[str], None]
_COUNT: Final = "keras_course.pictures"
"""Where in the scope of a request is noted how many pictures came."""
GIVE_UP: Final = "keras_course.give_up"
"""Where in the scope of a request the server finds what to call when its client has gone."""
ABORT: Final = "keras_course.abort"
"""Where in the scope of a request the application finds what to call to end a connection in the middle of an answer."""
IS_CLOSING: Final = "keras_course.is_closing"
"""Where in the scope of a request the application finds what says whether the connection has ended."""
_LONGEST_PATH: Final = 200

_DECIMALS: Final = 6
"""Of the numbers in an answer; float32 has not many more to tell, and they take time to write and to read."""

# What is no larger is decoded where it is, without a process: it takes a tenth of a millisecond, and if it was made to
# take long, some. Only what PNG files compress besides pixels grows a thousandfold.
_SMALL_BYTES: Final = 2**13
_SMALL_PIXELS: Final = 64 * 64
_GROWING: Final = (b"iCCP", b"zTXt", b"iTXt")

_FEW_NUMBERS: Final = 1024
"""In an answer that is written in one go; while it is, nothing else is done."""
_FEW_BYTES: Final = 2**16
"""In an answer that is sent in one go."""
_MOST_EXPLANATIONS: Final = 16
"""That wait, or are being computed; one is at a time."""
_BYTES_OF_PART: Final = 2**24
"""Of the covered pictures that are made at once."""
_PICTURES_AT_ONCE: Final = 2
"""Pictures of one form that are decoded at the same time."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request, and all together, may take.

    Args:
        body_bytes: Of one request.
        pixels: Of one picture, when decoded.
        pictures: Of one form.
        rows: Of one prepared batch.
        seconds: From the first byte of a request to its answer.
        requests: Requests that are processed at the same time; further ones are answered 503.
        batch_size: Pictures that the model is given at once.
        waiting_bytes: Of all requests together whose clients are still sending, or still reading a large answer; when
            there are more, the oldest of them is given up. Those that are worked on may have as many once more.

    Raises:
        CourseError: One is not positive.
    """

    body_bytes: int = 2**23
    pixels: int = 25_000_000
    pictures: int = 32
    rows: int = 1024
    seconds: int = 20
    requests: int = 256
    batch_size: int = 32
    waiting_bytes: int = 2**28

    def __post_init__(self) -> None:
        check_positive(**vars(self))


class Service:
    """A model that answers requests.

    Args:
        runtime: The model.
        limits: What requests may take.
    """

    def __init__(self, runtime: Runtime, limits: Limits) -> None:
        self.runtime = runtime
        self.limits = limits
        run_soon = None if runtime.process is None else self._logits_async
        self.batches = MicroBatches(self._logits, batch_size=limits.batch_size, run_soon=run_soon)
        self.decoders = Decoders(runtime.card.picture_format, limits.pixels, limits.seconds)
        self.places = _Places(limits)
        self._explanations = 0
        self._explaining = asyncio.Lock()
        self._heads = [f'{{"class":{json.dumps(name)},"probability":' for name in runtime.card.class_names]

    def warm_up(self) -> None:
        """Runs all that may have to be compiled once, for each size of batch; requests then need not wait for that."""
        if self.runtime.compiled:
            self.runtime.heat(np.zeros(self.runtime.card.picture_format.shape, "uint8"), 0)
        size = 1
        while size <= self.limits.batch_size:
            self.runtime.logits(np.zeros((size, *self.runtime.card.picture_format.shape), "uint8"))
            size *= 2

    def _logits(self, pictures: np.ndarray) -> np.ndarray:
        return _joined([self.runtime.logits(part) for part in self._parts(pictures)])

    async def _logits_async(self, pictures: np.ndarray) -> np.ndarray:
        return _joined([await self.runtime.logits_async(part) for part in self._parts(pictures)])

    def _parts(self, pictures: np.ndarray) -> list[np.ndarray]:
        """Gives Keras no more pictures at once than it was warmed up for; it would compile another program."""
        most = self.limits.batch_size if self.runtime.compiled else len(pictures)
        return [pictures[start : start + most] for start in range(0, len(pictures), most)]

    # --- What is asked ---

    async def predict(self, request: Request) -> Response:
        """Answers pictures."""
        started = time.perf_counter()
        classes = len(self.runtime.card.class_names)
        top = _whole_number(request, "top", default=min(3, classes), largest=classes)
        wants_logits = request.query_params.get("logits", "false") in ("true", "1")
        names, pictures = await self._pictures(request)
        logits = await self.batches.logits(pictures)
        if request.headers.get("accept", "").strip().lower() == BATCH_TYPE:
            array = _npy(logits)
            if len(array) <= _FEW_BYTES:
                return Response(array, media_type=BATCH_TYPE)
            parts = (array[start : start + _FEW_BYTES] for start in range(0, len(array), _FEW_BYTES))
            return _InParts(request, parts, len(array), BATCH_TYPE, whole=len(array))
        numbers = 1 + top + classes * wants_logits
        if len(names) * numbers <= _FEW_NUMBERS:
            predictions = ",".join(self._in_json(names, logits, top, wants_logits))
            content = f'{{"predictions":[{predictions}],"milliseconds":{_milliseconds(started)}}}'
            return Response(content, media_type="application/json")
        check_logits(logits)
        rows = max(1, _FEW_NUMBERS // numbers)

        def parts_of_json() -> Iterator[str]:
            for start in range(0, len(names), rows):
                some = slice(start, start + rows)
                head = "," if start else '{"predictions":['
                yield head + ",".join(self._in_json(names[some], logits[some], top, wants_logits))
            yield f'],"milliseconds":{_milliseconds(started)}}}'

        return _InParts(request, parts_of_json(), logits.nbytes, "application/json")

    def _in_json(self, names: Sequence[str], logits: np.ndarray, top: int, wants_logits: bool) -> Iterator[str]:
        """Writes what is said of each picture; to have objects written by ``json`` takes three times as long."""
        numbers, probabilities = most_probable(logits, top=top)
        shares = probabilities.round(_DECIMALS)
        rows = logits.astype("float64").round(_DECIMALS).tolist() if wants_logits else names
        for name, classes, row, scores in zip(names, numbers.tolist(), shares.tolist(), rows, strict=True):
            answers = "},".join([f"{self._heads[number]}{share}" for number, share in zip(classes, row, strict=True)])
            more = f',"logits":{scores}' if wants_logits else ""
            yield f'{{"picture":{json.dumps(name)},"answers":[{answers}}}]{more}}}'

    async def explain(self, request: Request) -> Response:
        """Says where in a picture the reasons for the answer are."""
        started = time.perf_counter()
        self._check_explanations()
        _, pictures = await self._pictures(request)
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
        if rows.size <= _FEW_NUMBERS:
            return JSONResponse({**facts, "heat": rows.tolist(), "milliseconds": _milliseconds(started)})
        together = max(1, _FEW_NUMBERS // rows.shape[1])

        def parts_of_json() -> Iterator[str]:
            yield json.dumps(facts).removesuffix("}") + ',"heat":['
            for start in range(0, len(rows), together):
                yield ("," if start else "") + json.dumps(rows[start : start + together].tolist())[1:-1]
            yield f'],"milliseconds":{_milliseconds(started)}}}'

        return _InParts(request, parts_of_json(), rows.nbytes, "application/json")

    def _check_explanations(self) -> None:
        if self._explanations >= _MOST_EXPLANATIONS:
            busy = f"{_MOST_EXPLANATIONS} pictures wait to be explained; come again"
            raise HTTPException(503, busy, headers={"Retry-After": "1"})

    async def _explain(self, picture: np.ndarray) -> tuple[int, str, np.ndarray]:
        """Gives the class of a picture, the method, and the heat; what others ask is computed in between."""
        label = int((await self.batches.logits(picture[None]))[0].argmax())
        if self.runtime.compiled:
            heat = await self.batches.alone(self.runtime.heat, picture, label)
            if heat is not None:
                return label, "Grad-CAM", heat
        count = PLACES * PLACES + 1
        step = min(self.limits.batch_size, max(1, _BYTES_OF_PART // picture.nbytes))
        logits = []
        for start in range(0, count, step):
            pictures = covered(picture, range(start, min(start + step, count)))
            logits.append((await self.batches.logits(pictures, patient=True))[:, label])
        return label, "occlusion", heat_of(np.concatenate(logits), *picture.shape[:2])

    async def metadata(self, request: Request) -> Response:
        """Tells what the model is."""
        card = self.runtime.card
        return JSONResponse(
            {
                "title": card.title,
                "class_names": list(card.class_names),
                "pictures": card.picture_format.to_dict(),
                "data": card.data,
                "limits": card.limits,
                "licence": card.licence,
                "metrics": dict(card.metrics),
                "training": dict(card.training),
                "format": self.runtime.format,
                "runtime": self.runtime.name,
            }
        )

    async def health(self, request: Request) -> Response:
        """Says that the service is there."""
        return JSONResponse({"status": "ok", "requests": self.places.taken})

    async def describe(self, request: Request) -> Response:
        """Describes the service in OpenAPI's words."""
        return JSONResponse(openapi(self.limits, len(self.runtime.card.class_names)))

    # --- What comes in ---

    async def _pictures(self, request: Request) -> tuple[list[str], np.ndarray]:
        """Reads the body of a request: pictures in files, or a batch that is prepared already."""
        try:
            names, pictures = await self._read(request)
        except ClientDisconnect:
            raise HTTPException(400, "the client has gone") from None
        request.scope[_COUNT] = len(names)
        return names, pictures

    async def _read(self, request: Request) -> tuple[list[str], np.ndarray]:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == BATCH_TYPE:
            rows = _prepared_batch(await request.body(), self.runtime.card.picture_format.shape, self.limits.rows)
            return [str(number) for number in range(1, len(rows) + 1)], rows
        if kind == FORM_TYPE:
            files = await self._files(request)
        elif kind in PICTURE_TYPES:
            files = [(PICTURE, await request.body())]
        else:
            known = ", ".join((*PICTURE_TYPES, FORM_TYPE, BATCH_TYPE))
            raise HTTPException(415, f"Content-Type is {kind[:80]!r}; send one of {known}")
        client = request.client.host if request.client else ""
        at_once = asyncio.Semaphore(_PICTURES_AT_ONCE)

        async def prepared(name: str, content: bytes) -> np.ndarray:
            async with at_once:
                return await self._prepared(content, name, client)

        if len(files) == 1:
            return [files[0][0]], (await prepared(*files[0]))[None]
        tasks = [asyncio.ensure_future(prepared(name, content)) for name, content in files]
        try:
            pictures = await asyncio.gather(*tasks)
        finally:  # of what is refused for one picture, the others need not be decoded
            for task in tasks:
                task.cancel()
        return [name for name, _ in files], np.stack(pictures)

    async def _files(self, request: Request) -> list[tuple[str, bytes]]:
        try:
            async with request.form(max_files=self.limits.pictures, max_fields=8) as form:
                uploads = form.getlist(PICTURE)
                if any(isinstance(upload, str) for upload in uploads):
                    raise HTTPException(400, f"the field {PICTURE!r} is a text; send a file")
                files = [(upload.filename or PICTURE, await upload.read()) for upload in uploads]
        except (HTTPException, ClientDisconnect):
            raise
        except Exception as error:  # each parser of forms has errors of its own
            raise HTTPException(400, f"the form cannot be read: {error}") from None
        if not files:
            raise HTTPException(400, f"the form has no file {PICTURE!r}; send one")
        return files

    async def _prepared(self, content: bytes, name: str, client: str) -> np.ndarray:
        if not content:
            raise HTTPException(400, f"{name} is empty; send a picture")
        height, width, _ = self.runtime.card.picture_format.shape
        is_small = len(content) <= _SMALL_BYTES and height * width <= _SMALL_PIXELS
        if is_small and not any(growing in content for growing in _GROWING):
            # sooner done than handed over; if it is larger or damaged, a process finds out
            with suppress(CourseError):
                wanted = self.runtime.card.picture_format
                return prepare(content, wanted, largest_pixels=_SMALL_PIXELS, formats=WEB_FORMATS)
        try:
            return await self.decoders.prepare(content, name, client)
        except CourseError as error:
            raise HTTPException(422, str(error)) from None


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def make_app(
    runtime: Runtime,
    *,
    limits: Limits | None = None,
    hosts: Sequence[str] = (),
    origins: Sequence[str] = (),
    log: Log | None = None,
) -> ASGIApp:
    """Makes the application.

    Args:
        runtime: The model.
        limits: What requests may take.
        hosts: Names under which the service may be called, besides the address that a request comes to; any when empty.
        origins: Names whose pages may ask, besides the service's own page.
        log: Is called with a line about each request.

    Returns:
        An ASGI application.
    """
    service = Service(runtime, limits or Limits())

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await asyncio.get_running_loop().run_in_executor(None, service.warm_up)
        service.decoders.start()  # not before: a processor that starts them cannot open the model
        yield
        await service.decoders.close()
        service.batches.close()

    in_no_frame = {"Content-Security-Policy": "frame-ancestors 'none'"}
    document = page(runtime, service.limits)
    for_programs = documentation(service.limits, len(runtime.card.class_names))

    async def front(request: Request) -> Response:
        return HTMLResponse(document, headers=in_no_frame)

    async def docs(request: Request) -> Response:
        return HTMLResponse(for_programs, headers=in_no_frame)

    async def in_json(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)

    async def broken(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": "the model could not answer; the service goes on"}, 500)

    app = Starlette(
        routes=[
            Route("/", front),
            Route("/predict", service.predict, methods=["POST"]),
            Route("/explain", service.explain, methods=["POST"]),
            Route("/metadata", service.metadata),
            Route("/health", service.health),
            Route("/openapi.json", service.describe),
            Route("/docs", docs),
        ],
        lifespan=lifespan,
        exception_handlers={HTTPException: in_json, Exception: broken},
    )
    guarded = _Guard(app, service, hosts, origins)
    return guarded if log is None else _Logged(guarded, log)


def log_line(
    status: int | None, *, method: str = "-", path: str = "", milliseconds: float = 0.0, pictures: int = 0
) -> str:
    """Writes down that there was a request, and nothing of what is in it.

    Args:
        status: What was answered; None where nothing could be.
        method: Such as ``POST``.
        path: Which one was asked for.
        milliseconds: How long it took.
        pictures: How many pictures could be read.

    Returns:
        One line of ASCII, without its end.

    Example:
        >>> log_line(200, method="POST", path="/predict", milliseconds=0.25, pictures=3).partition(" ")[2]
        'POST "/predict" 200 0.2 ms 3 pictures'
    """
    now = datetime.now().astimezone().isoformat(timespec="milliseconds")
    shown = json.dumps(path[:_LONGEST_PATH])  # what could move a terminal's cursor is escaped
    return f"{now} {method} {shown} {status or '-'} {milliseconds:.1f} ms {pictures} pictures"


class _Logged:
    """Stands before everything, and tells of each request when it is over."""

    def __init__(self, app: ASGIApp, log: Log) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status: int | None = None

        async def send_and_see(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_see)
        finally:
            facts = {"method": scope["method"], "path": scope["path"], "pictures": scope.get(_COUNT, 0)}
            self._log(log_line(status, milliseconds=_milliseconds(started), **facts))


def page(runtime: Runtime, limits: Limits) -> str:
    """Makes the page on which a person draws, drops a photo or holds something before the camera.

    Args:
        runtime: The model.
        limits: What requests may take.

    Returns:
        An HTML document that asks nobody but this service.
    """
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
            "licence": card.licence,
        },
        "draw": card.picture_format.drawing,
        "classes": len(card.class_names),
        "largest": limits.body_bytes,
    }
    allow = "img-src data: blob:; media-src blob: mediastream:; connect-src 'self'; form-action 'none'; base-uri 'none'"
    return assemble(_PAGE, scripts=["page.js"], data=data, allow=allow)


def documentation(limits: Limits, classes: int) -> str:
    """Makes the page that tells a programmer what ``openapi`` tells a program.

    Args:
        limits: What requests may take.
        classes: How many classes there are.

    Returns:
        An HTML document that asks nobody.
    """
    allow = "img-src data:; form-action 'none'; base-uri 'none'"
    return assemble(_DOCS, scripts=["page.js"], data=openapi(limits, classes), allow=allow)


_PAGE: Final = Path(__file__).parent / "page"
_DOCS: Final = Path(__file__).parent / "docs"


class _Places:
    """Counts the requests that are worked on, and the bytes of all."""

    def __init__(self, limits: Limits) -> None:
        self.taken = 0
        self.bytes_of_taken = 0
        self._limits = limits
        self._waiting: dict[_Request, int] = {}  # the oldest first
        self._bytes_of_waiting = 0

    def wait(self, request: "_Request", count: int) -> None:
        """Adds bytes to a request that waits for its client, and gives up the oldest where there are too many."""
        self._waiting[request] = self._waiting.get(request, 0) + count
        self._bytes_of_waiting += count
        if self._bytes_of_waiting > self._limits.waiting_bytes:
            oldest = next(iter(self._waiting))
            self.go_on(oldest)
            oldest.give_up(for_others=True)

    def go_on(self, request: "_Request") -> None:
        """Forgets the bytes of a request that no longer waits for its client."""
        self._bytes_of_waiting -= self._waiting.pop(request, 0)

    def is_full(self) -> bool:
        """Says whether no more requests are worked on."""
        return self.taken >= self._limits.requests

    def is_room_for(self, count: int) -> bool:
        """Says whether a request of so many bytes can be worked on; small ones always find room."""
        return count <= _FEW_BYTES or self.bytes_of_taken + count <= self._limits.waiting_bytes


class _Request:
    """Counts what comes in, and what time it takes, for one request."""

    def __init__(
        self, scope: Scope, receive: Receive, places: _Places, limits: Limits, timeout: asyncio.Timeout
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._places = places
        self._largest = limits.body_bytes
        self._timeout = timeout
        self._total = 0
        self._has_place = False
        self._needs_place = scope["method"] == "POST"
        self.is_whole = False
        self.was_given_up = self.was_for_others = False
        scope[GIVE_UP] = self.give_up
        scope[_REQUEST] = self

    async def receive(self) -> Message:
        """Takes some more of the body, until it is too much."""
        message = await self._receive()
        count = len(message.get("body", b""))
        self._total += count
        if self._total > self._largest:
            raise _TooLargeError
        if message.get("more_body", False):
            self._places.wait(self, count)
        elif not self.is_whole:
            self.is_whole = True
            self._places.go_on(self)
            if self._needs_place:
                self._take_place()
        return message

    def _take_place(self) -> None:
        if self._places.is_full() or not self._places.is_room_for(self._total):
            raise _NoPlaceError
        self._places.taken += 1
        self._places.bytes_of_taken += self._total
        self._has_place = True

    def leave_place(self) -> None:
        """Makes room for others: all that is left to do is to send the answer."""
        if self._has_place:
            self._has_place = False
            self._places.taken -= 1
            self._places.bytes_of_taken -= self._total

    def wait_for_reader(self, count: int) -> None:
        """Counts the bytes of an answer that is sent in parts."""
        self._places.wait(self, count)

    def give_up(self, for_others: bool = False) -> None:
        """Ends the work for this request, whose client has gone, or to make room."""
        self.was_given_up, self.was_for_others = True, for_others
        with suppress(RuntimeError):  # it has just ended by itself
            self._timeout.reschedule(asyncio.get_running_loop().time())

    def end(self) -> None:
        """Forgets the request."""
        self.leave_place()
        self._places.go_on(self)
        self._scope.pop(GIVE_UP, None)
        self._scope.pop(_REQUEST, None)


class _Guard:
    """Stands before the application: counts, times, and sends away what is too much."""

    def __init__(self, app: ASGIApp, service: Service, hosts: Sequence[str], origins: Sequence[str]) -> None:
        self._app = app
        self._service = service
        self._hosts = hosts
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limits, headers = self._service.limits, dict(scope["headers"])
        begun = False
        busy = {"Retry-After": "1"}
        timeout = asyncio.timeout(limits.seconds)
        current = _Request(scope, receive, self._service.places, limits, timeout)

        async def send_safely(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                current.leave_place()
                message["headers"] = [*message.get("headers", []), *_SAFE_HEADERS]
            try:
                await send(message)
            except RuntimeError:  # of uvloop, where a connection has just ended
                if not scope.get(IS_CLOSING, _nothing)():
                    raise
                scope.get(ABORT, _nothing)()

        async def refuse(code: int, message: str, **more: str) -> None:
            if code != 408 and not current.is_whole and int(claimed) <= _BYTES_OF_DRAINING:
                await _drain(receive)
            # what is left of a body that nobody reads would be taken for the next request
            response = JSONResponse({"error": message}, code, headers={"Connection": "close", **more})
            await response(scope, receive, send_safely)

        claimed = headers.get(b"content-length", b"0")
        claimed = claimed if claimed.isdigit() and len(claimed) < 20 else b"0"
        if self._hosts and (names := self._wrong_host(scope)) is not None:
            answers_to = " and ".join(self._hosts)
            remedy = "--allowed-host adds a name"
            await refuse(421, f"Host is {names[:80]!r}; this service answers to {answers_to}; {remedy}")
            return
        if int(claimed) > limits.body_bytes:
            await refuse(413, f"the request has {int(claimed):,} bytes; at most {limits.body_bytes:,} are read")
            return
        if scope["method"] == "POST":
            if self._is_from_elsewhere(scope, headers):
                await refuse(403, "the request comes from a page of somebody else; only this service's own may ask")
                return
            if self._service.places.is_full():
                await refuse(503, f"{limits.requests} requests are under way; come again", **busy)
                return
        try:
            async with timeout:
                await self._app(scope, current.receive, send_safely)
        except _TooLargeError:
            if not begun:
                await refuse(413, f"the request has more than the {limits.body_bytes:,} bytes that are read")
        except _NoPlaceError:
            await refuse(503, f"{limits.requests} requests are under way; come again", **busy)
        except TimeoutError:
            if begun:  # the client does not read its answer, or it is gone
                scope.get(ABORT, _nothing)()
            elif current.was_for_others:
                await refuse(503, "the service has too much to read at once; come again", **busy)
            elif current.was_given_up:  # there is nobody to answer
                return
            elif current.is_whole:
                too_busy = f"the service is too busy to answer within {limits.seconds} seconds; come again"
                await refuse(503, too_busy, **busy)
            else:
                await refuse(408, f"the request took more than {limits.seconds} seconds; it is given up")
        finally:
            current.end()

    def _wrong_host(self, scope: Scope) -> str | None:
        """Gives the names under which a request came, unless it is one of ours."""
        names = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(names) == 1 and self._is_ours(_without_port(names[0]), scope):
            return None
        return ", ".join(names)

    def _is_ours(self, name: str, scope: Scope) -> bool:
        if name.lower() in self._hosts:
            return True
        address = (scope.get("server") or ("",))[0]
        return _as_address(name) is not None and _as_address(name) == _as_address(address)

    def _is_from_elsewhere(self, scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
        """Says whether a page of somebody else asks; browsers say from where a request comes, and programs do not."""
        site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
        if site == b"cross-site":
            return True
        if origin is None:
            return False
        if origin == b"null":  # what a browser says where it keeps back the origin
            return site != b"same-origin"
        place = origin.decode("latin-1").lower().partition("://")[2]
        host = headers.get(b"host", b"").decode("latin-1").lower()
        # where a proxy is in between, Host may be what the proxy calls this service
        return _without_default_port(place) != _without_default_port(host) and _without_port(place) not in self._origins


_REQUEST: Final = "keras_course.request"
_SAFE_HEADERS: Final = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]


class _TooLargeError(BaseException):
    """No ``Exception``: what reads a form would swallow it."""


class _NoPlaceError(BaseException):
    """No ``Exception``, for the same reason."""


def _nothing() -> None:
    pass


class _InParts(StreamingResponse):
    """A large answer, which is written and sent a part at a time, and counted while its client reads.

    Between two parts others are served.
    """

    def __init__(self, request: Request, parts: Iterator[str | bytes], held: int, kind: str, whole: int = 0) -> None:
        super().__init__(_one_by_one(parts), media_type=kind, headers={"Content-Length": str(whole)} if whole else None)
        self._request: _Request | None = request.scope.get(_REQUEST)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._request is not None:
            self._request.wait_for_reader(self._held)
        await self.stream_response(send)


async def _one_by_one(parts: Iterator[str | bytes]) -> AsyncIterator[str | bytes]:
    for part in parts:
        yield part
        await asyncio.sleep(0)


async def _drain(receive: Receive) -> None:
    """Reads on and throws away: a client that is still sending would else see a broken connection and no answer."""
    total = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_SECONDS_OF_DRAINING):
            while total < _BYTES_OF_DRAINING:
                message = await receive()
                total += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


_SECONDS_OF_DRAINING: Final = 2
_BYTES_OF_DRAINING: Final = 2**26


def _without_port(host: str) -> str:
    """Takes the port off ``localhost:8000`` and ``[::1]:8000``."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _without_default_port(host: str) -> str:
    """Takes the port off where it is one that a browser does not name."""
    return _without_port(host) if host.endswith((":80", ":443")) else host


def _as_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Reads an IP address, also one in square brackets, and an IPv4 one that came in IPv6's form."""
    try:
        address = ipaddress.ip_address(name.removeprefix("[").removesuffix("]").partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _whole_number(request: Request, name: str, *, default: int, largest: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= largest):
        raise HTTPException(400, f"{name} is {text[:40]!r}; give a whole number from 1 to {largest}")
    return int(text)


def _prepared_batch(body: bytes, shape: tuple[int, int, int], most: int) -> np.ndarray:
    """Reads NumPy's ``.npy``, without its pickles, and without believing what it claims."""
    file = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        found, by_columns, kind = read(file)
    except Exception as error:  # a damaged header can raise nearly anything
        raise HTTPException(422, f"the batch is no .npy file: {reason_of(error)}") from None
    expected = ", ".join(map(str, shape))
    if kind != np.uint8 or by_columns or len(found) != 4 or found[1:] != shape:
        raise HTTPException(422, f"the batch is {kind} {found}; send uint8 (n, {expected}), row by row")
    if not 1 <= found[0] <= most:
        raise HTTPException(422, f"the batch has {found[0]:,} pictures; send 1 to {most:,}")
    content = body[file.tell() :]
    if len(content) != int(np.prod(found)):
        raise HTTPException(422, f"the batch has {len(content):,} bytes for {found}; send all of it and no more")
    return np.frombuffer(content, np.uint8).reshape(found)


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


def openapi(limits: Limits, classes: int) -> dict[str, Any]:
    """Describes the service, from the same limits that are checked.

    Args:
        limits: What requests may take.
        classes: How many classes there are.

    Returns:
        The document of ``/openapi.json``.

    Example:
        >>> sorted(openapi(Limits(), 10)["paths"])
        ['/explain', '/health', '/metadata', '/openapi.json', '/predict']
    """
    error = {
        "description": "What is wrong, and what to do.",
        "content": {
            "application/json": {
                "schema": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
            }
        },
    }
    number = {"type": "number"}
    rounded = {"type": "number", "description": f"to {_DECIMALS} decimals"}
    text = {"type": "string"}
    answer = {
        "type": "object",
        "required": ["class", "probability"],
        "properties": {"class": text, "probability": {**rounded, "minimum": 0, "maximum": 1}},
    }
    prediction = {
        "type": "object",
        "required": ["picture", "answers"],
        "properties": {
            "picture": text,
            "answers": {"type": "array", "items": answer, "maxItems": classes},
            "logits": {"type": "array", "items": rounded, "minItems": classes, "maxItems": classes},
        },
    }
    bodies: dict[str, Any] = {
        kind: {"schema": {"type": "string", "format": "binary", "maxLength": limits.body_bytes}}
        for kind in PICTURE_TYPES
    }
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "maxItems": limits.pictures}
    bodies[FORM_TYPE] = {"schema": {"type": "object", "required": [PICTURE], "properties": {PICTURE: files}}}
    bodies[BATCH_TYPE] = {
        "schema": {
            "type": "string",
            "format": "binary",
            "description": f"uint8 (n, height, width, channels) as /metadata says, n from 1 to {limits.rows}",
        }
    }

    def operation(
        summary: str, properties: dict[str, Any], other_kinds: Mapping[str, Any] = MappingProxyType({}), **more: Any
    ) -> dict[str, Any]:
        schema = {"type": "object", "required": list(properties), "properties": properties}
        good = {"description": summary, "content": {"application/json": {"schema": schema}, **other_kinds}}
        codes = ("400", "403", "408", "413", "415", "421", "422", "500", "503") if more else ("421",)
        return {"summary": summary, "responses": {"200": good, **dict.fromkeys(codes, error)}, **more}

    body = {"required": True, "content": bodies}
    # in answer to "Accept: application/x-npy"
    raw = {"type": "string", "format": "binary", "description": f"the logits, float32 (n, {classes}), in NumPy's .npy"}
    top = {"name": "top", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": classes}}
    logits = {"name": "logits", "in": "query", "schema": {"type": "boolean", "default": False}}
    array_of = {"type": "array"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "keras-course serve", "version": keras_course.__version__},
        "paths": {
            "/predict": {
                "post": operation(
                    "The most probable classes of each picture.",
                    {"predictions": {**array_of, "items": prediction}, "milliseconds": number},
                    {BATCH_TYPE: {"schema": raw}},
                    requestBody=body,
                    parameters=[top, logits],
                )
            },
            "/explain": {
                "post": operation(
                    "Where in a picture the reasons for the answer are.",
                    {
                        "class": text,
                        "method": {"type": "string", "enum": ["Grad-CAM", "occlusion"]},
                        "heat": {**array_of, "items": {**array_of, "items": number}},
                        "prepared": text,
                        "milliseconds": number,
                    },
                    requestBody=body,
                )
            },
            "/metadata": {
                "get": operation("The model's card.", {"title": text, "class_names": {**array_of, "items": text}})
            },
            "/health": {"get": operation("Whether the service is there.", {"status": text})},
            "/openapi.json": {"get": operation("This document.", {"openapi": text})},
        },
    }
