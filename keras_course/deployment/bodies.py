"""Reads the pictures in the body of a request: as files, in a form, or as a prepared batch."""

import asyncio
import io
import json
from contextlib import suppress
from typing import Final, NamedTuple

import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from keras_course.deployment.decoders import Decoders
from keras_course.deployment.guard import INPUT_COUNT, RequestLimits
from keras_course.deployment.openapi import BATCH_TYPE, FORM_TYPE, PICTURE, PICTURE_TYPES
from keras_course.errors import CourseError, reason_of
from keras_course.preprocessing import PictureFormat
from keras_course.preprocessing.images import WEB_FORMATS, prepare

# A small picture is decoded in this process, which takes a tenth of a millisecond, or a few in the worst case. Only the
# compressed data that PNG files hold besides pixels grow a thousandfold.
_SMALL_BYTES: Final = 2**13
_SMALL_PIXELS: Final = 64 * 64
_GROWING: Final = (b"iCCP", b"zTXt", b"iTXt")

_PICTURES_AT_ONCE: Final = 2
"""The number of pictures of one form that are decoded at the same time."""


class Pictures(NamedTuple):
    """The pictures of a body with their names, as the input of the model: uint8 (n, height, width, channels)."""

    names: list[str]
    inputs: np.ndarray

    def fields(self, number: int) -> str:
        """Returns the first fields of the answer for a picture, in JSON."""
        return f'"picture":{json.dumps(self.names[number])}'


class BodyReader:
    """Reads bodies, and prepares their pictures for the model."""

    def __init__(self, picture_format: PictureFormat, limits: RequestLimits) -> None:
        self._picture_format, self._limits = picture_format, limits
        self.decoders = Decoders(picture_format, limits.pixels, limits.seconds)

    def start(self) -> None:
        """Starts what is needed for the first request; call it in the event loop."""
        self.decoders.start()

    async def close(self) -> None:
        """Ends what ``start`` has started."""
        await self.decoders.close()

    async def read(self, request: Request) -> Pictures:
        """Returns the pictures in a body."""
        try:
            names, pictures = await self._read(request)
        except ClientDisconnect:
            raise HTTPException(400, "the client has gone") from None
        request.scope[INPUT_COUNT] = len(names)
        return Pictures(names, pictures)

    async def _read(self, request: Request) -> tuple[list[str], np.ndarray]:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == BATCH_TYPE:
            rows = _prepared_batch(await request.body(), self._picture_format.shape, self._limits.rows)
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
        finally:  # if one picture is refused, the others need not be decoded
            for task in tasks:
                task.cancel()
        return [name for name, _ in files], np.stack(pictures)

    async def _files(self, request: Request) -> list[tuple[str, bytes]]:
        try:
            async with request.form(max_files=self._limits.pictures, max_fields=8) as form:
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
        height, width, _ = self._picture_format.shape
        is_small = len(content) <= _SMALL_BYTES and height * width <= _SMALL_PIXELS
        if is_small and not any(growing in content for growing in _GROWING):
            # faster than a process; one that is larger or damaged is left to a process
            with suppress(CourseError):
                return prepare(content, self._picture_format, largest_pixels=_SMALL_PIXELS, formats=WEB_FORMATS)
        try:
            return await self.decoders.prepare(content, name, client)
        except CourseError as error:
            raise HTTPException(422, str(error)) from None


def _prepared_batch(body: bytes, shape: tuple[int, int, int], most: int) -> np.ndarray:
    """Reads a batch in NumPy's ``.npy`` format, without pickles, and checks its claims before any memory is taken."""
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
