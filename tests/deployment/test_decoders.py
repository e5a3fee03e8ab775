"""Decoding pictures in separate processes: same pixels, fair order, limits of time and memory."""

import asyncio
import io
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from keras_course.deployment import decode_process, decoders
from keras_course.deployment.decoders import Decoders
from keras_course.errors import CourseError
from keras_course.preprocessing import PictureFormat, prepare

ROOT = Path(__file__).parents[2]
COLOR = PictureFormat(height=20, width=30, channels=3)
MOST_PIXELS = 25_000_000


def file_of(image, kind="PNG", **settings):
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def noise(height, width, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype="uint8"))


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


PHOTO = file_of(noise(100, 100))
LARGE = file_of(Image.new("L", (5000, 5000)))
# 100 × 100 pixels, and color profiles of a megabyte each that take four seconds to unpack
SLOW = PHOTO[:33] + 1500 * chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2**20 - 10), 9)) + PHOTO[33:]


def run(work, **settings):
    """Runs a test in an event loop with new decoders, which end with it."""

    async def main():
        pool = Decoders(COLOR, MOST_PIXELS, seconds=60, **settings)
        try:
            async with asyncio.timeout(60):
                return await work(pool)
        finally:
            await pool.close()

    before = set(children())
    try:
        return asyncio.run(main())
    finally:
        assert set(children()) <= before, "a decoder is still running"


def children():
    children = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child.pid for child in children if "decode_process" in " ".join(child.cmdline())]  # not a server


def test_decoded_pixels_equal_preprocessing():
    pictures = [file_of(noise(90, 120), kind) for kind in ("JPEG", "PNG", "WEBP", "BMP")]
    pictures += [LARGE, file_of(noise(20, 30))]

    async def work(pool):
        return await asyncio.gather(*(pool.prepare(content, "x", "client") for content in pictures))

    for found, content in zip(run(work), pictures, strict=True):
        np.testing.assert_array_equal(found, prepare(content, COLOR))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holiday.png cannot be read as a picture"),
        (b"no picture", "holiday.png cannot be read as a picture: it is none of JPEG, PNG, WEBP, BMP"),
        (file_of(noise(9, 9), "TIFF"), "it is none of JPEG, PNG, WEBP, BMP"),
        (PHOTO[:-5000], "cannot be read as a picture"),
        (file_of(Image.new("1", (5001, 5000))), "5,001 × 5,000 pixels; give a picture of at most 25,000,000 pixels"),
    ],
)
def test_a_bad_picture_is_explained_and_the_next_one_is_decoded(content, message):
    async def work(pool):
        for _ in range(3):
            with pytest.raises(CourseError, match=message):
                await pool.prepare(content, "holiday.png", "client")
        return await pool.prepare(PHOTO, "x", "client")

    np.testing.assert_array_equal(run(work), prepare(PHOTO, COLOR))


def test_a_slow_picture_is_canceled_and_others_are_decoded_meanwhile():
    async def work(pool):
        await pool.prepare(PHOTO, "x", "client")  # starts the processes
        slow = [asyncio.create_task(pool.prepare(SLOW, "slow.png", "client")) for _ in range(2)]
        await asyncio.sleep(0.1)
        for _ in range(20):
            await pool.prepare(PHOTO, "x", "client")
        assert not slow[0].done(), "the twenty pictures were decoded before the slow one"
        for task in slow:
            with pytest.raises(CourseError, match=r"slow\.png takes too long to decode; give a smaller picture"):
                await task
        await asyncio.gather(*(pool.prepare(content, "x", "client") for content in (LARGE, PHOTO)))

    run(work, seconds_of_long=1.0)


def test_an_unexpectedly_slow_picture_is_restarted_in_the_long_queue():
    async def work(pool):
        return await pool.prepare(PHOTO, "x", "client")

    found = run(work, seconds_of_short=1e-3)  # a millisecond is too short for any picture
    np.testing.assert_array_equal(found, prepare(PHOTO, COLOR))


def test_a_picture_with_many_parts_counts_as_slow():
    assert decode_process.is_slow(b"\xff\xd8" + 300 * b"\xff\xfe\x00\x02")
    assert not decode_process.is_slow(b"no picture")


def test_a_hanging_process_is_killed_after_a_time_limit():
    async def work(pool):
        await pool.prepare(PHOTO, "x", "client")
        for pid in children():
            os.kill(pid, signal.SIGSTOP)
        pool.seconds = 0.5
        with pytest.raises(CourseError, match="takes too long to decode"):
            await asyncio.wait_for(pool.prepare(PHOTO, "x", "client"), 30)
        pool.seconds = 60
        return await pool.prepare(PHOTO, "x", "client")

    np.testing.assert_array_equal(run(work), prepare(PHOTO, COLOR))


def test_a_killed_process_is_replaced():
    async def work(pool):
        for _ in range(3):
            await pool.prepare(PHOTO, "x", "client")
            for pid in children():
                os.kill(pid, signal.SIGKILL)
        return await pool.prepare(PHOTO, "x", "client")

    np.testing.assert_array_equal(run(work), prepare(PHOTO, COLOR))


def test_on_windows_pipes_connect_a_decoder(monkeypatch):
    """There an event loop has no sockets between processes that are inherited."""
    monkeypatch.setattr(sys, "platform", "win32")

    async def work(pool):
        first = await pool.prepare(PHOTO, "x", "client")
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        second = await pool.prepare(LARGE, "x", "client")
        with pytest.raises(CourseError, match="bad cannot be read as a picture"):
            await pool.prepare(b"no picture", "bad", "client")
        return first, second

    for found, content in zip(run(work), (PHOTO, LARGE), strict=True):
        np.testing.assert_array_equal(found, prepare(content, COLOR))


def test_clients_take_turns():
    order = []

    async def work(pool):
        pool._workers = [None]  # no decoder: only the order is tested
        for client, count in (("greedy", 4), ("other", 2)):
            for number in range(count):
                task = asyncio.create_task(pool.prepare(PHOTO, f"{client} {number}", client))
                order.append(task)
                await asyncio.sleep(0)
        given_up = order[1]
        given_up.cancel()
        await asyncio.sleep(0)
        pool._workers.clear()
        names = []
        while (waiting := pool._short.pop()) is not None:
            names.append(waiting.name)
            waiting.answer.cancel()
        return names

    assert run(work) == ["greedy 0", "other 0", "greedy 2", "other 1", "greedy 3"]


def test_the_largest_pictures_stay_within_memory_and_time_limits():
    """Each of them takes less than half of the allowed time."""
    side = int(MOST_PIXELS**0.5)
    flat = Image.new("RGB", (side, side), (90, 120, 30))
    ramp = Image.fromarray(np.arange(side, dtype="uint16")[None].repeat(side, axis=0) * 13)
    pictures = {
        "16 bits": file_of(ramp, compress_level=1),
        "palette": file_of(flat.convert("P"), compress_level=1, transparency=3),
        "WEBP": file_of(flat.convert("RGBA"), "WEBP", lossless=True, method=0, quality=0),
    }

    async def work(pool):
        return [await pool.prepare(content, name, "client") for name, content in pictures.items()]

    for found in run(work, seconds_of_long=2.5):
        assert found.shape == COLOR.shape


def test_a_picture_beyond_the_memory_limit_is_an_error_and_the_service_continues(monkeypatch):
    monkeypatch.setattr(decoders, "OTHER_BYTES", 2**26)
    monkeypatch.setattr(decoders, "BYTES_FOR_PIXEL", 0)

    async def work(pool):
        for content in (LARGE, file_of(Image.new("RGBA", (4000, 4000)))):
            with pytest.raises(CourseError, match=r"big\.png cannot be read as a picture: MemoryError"):
                await pool.prepare(content, "big.png", "client")
        return await pool.prepare(PHOTO, "x", "client")

    np.testing.assert_array_equal(run(work), prepare(PHOTO, COLOR))


GARBAGE = """
import struct, sys
sys.stdin.buffer.read(9)
sys.stdout.buffer.write({answer!r})
sys.stdout.buffer.flush()
sys.stdin.buffer.read()
"""


@pytest.mark.parametrize(
    "answer",
    [
        decode_process.ANSWER.pack(decode_process.PIXELS, 2**40),
        decode_process.ANSWER.pack(decode_process.PIXELS, 3) + b"abc",
        decode_process.ANSWER.pack(decode_process.ERROR, 2**40),
        decode_process.ANSWER.pack(decode_process.IS_SLOW, 9) + bytes(9),
        decode_process.ANSWER.pack(77, 0),
    ],
)
def test_malformed_answers_of_a_decoder_are_refused(monkeypatch, answer):
    """A picture that takes over the decoder can only write such answers."""
    monkeypatch.setattr(decoders, "_START", GARBAGE.format(answer=answer))

    async def work(pool):
        pool.seconds = 2
        with pytest.raises(CourseError, match="x ends the process that decodes it; save it again, or give another"):
            await pool.prepare(PHOTO, "x", "client")

    run(work)


PARENT = """
import asyncio, sys
from pathlib import Path
import psutil
from keras_course.deployment.decoders import Decoders
from keras_course.preprocessing import PictureFormat

async def main():
    pool = Decoders(PictureFormat(height=20, width=30, channels=3), 25_000_000, seconds=60, seconds_of_long=60)
    slow = asyncio.create_task(pool.prepare(Path(sys.argv[1]).read_bytes(), "slow.png", "client"))
    await asyncio.sleep(0.5)
    print(*[child.pid for child in psutil.Process().children()], flush=True)
    await slow

asyncio.run(main())
"""


def test_decoders_end_with_their_parent_while_they_decode(tmp_path):
    (tmp_path / "slow.png").write_bytes(SLOW)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-c", PARENT, str(tmp_path / "slow.png")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        decoding = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
        assert len(decoding) >= 2
        wait_until(lambda: any(one.cpu_times().user > 1 for one in decoding))  # it is decoding
        process.kill()
    wait_until(lambda: all(not one.is_running() or one.status() == psutil.STATUS_ZOMBIE for one in decoding))


def wait_until(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it takes half a minute")
