"""Pictures that callers give: read beside the event loop, few at a time, and written anew."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from aos.errors import InvalidField, QueueFull
from aos.fetch import fetcher
from aos.picture_order import FILE_BYTES, LEAST_SIDE, MOST_SIDE, PIXELS
from aos.pictures import head
from aos.rpc.channel import channel
from aos.v1 import blobs_pb2_grpc
from gateway.picture_files import PIECE, WAITING, PictureFiles, fitting
from tests.pictures import file, pixels


@pytest_asyncio.fixture
async def files() -> AsyncGenerator[PictureFiles]:
    async with fetcher() as outward, channel("127.0.0.1:1") as nowhere:
        given = PictureFiles(blobs_pb2_grpc.BlobsStub(nowhere), outward)
        yield given
        await given.aclose()


class TestReading:
    async def test_too_many_at_once(self, files):
        """More pictures than may wait are refused at once, and room comes back."""
        data = file(pixels(1000, 1000))
        reading = [asyncio.create_task(files.source(data, (96, 64), auto=False, masked=False)) for _ in range(WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull, match="pictures to be read"):
            await files.source(data, (96, 64), auto=False, masked=False)
        await asyncio.gather(*reading)
        source, mask, size = await files.source(data, (96, 64), auto=False, masked=False)
        assert (head(source, "x").width, mask, size) == (96, b"", (96, 64))

    async def test_nobody_waits(self, files):
        """A caller who leaves takes no room."""
        for _ in range(2 * WAITING):
            reading = asyncio.create_task(files.source(file(pixels()), (96, 64), auto=False, masked=False))
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            while files.inside:
                await asyncio.sleep(0.001)

    async def test_noise(self, files):
        """The largest picture, of noise, which no PNG makes smaller, fits into an order."""
        source, _, _ = await files.source(file(pixels(1536, 1024)), (1536, 1024), auto=False, masked=False)
        assert len(source) <= FILE_BYTES

    @pytest.mark.parametrize("size", [1, 2, 3, PIECE * 3 // 4 - 1, PIECE * 3 // 4, PIECE * 3 // 4 + 1])
    async def test_data_urls(self, files, size):
        """A data URL gives its bytes, however many."""
        data = bytes(number % 251 for number in range(size))
        url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        assert await files.get(url, "image", origin="", metadata=()) == data

    @pytest.mark.parametrize("text", ["abc", "ab=c", "YQ==YQ==", "a b=", "YWJj" * (PIECE // 4) + "Y"])
    async def test_data_urls_that_are_none(self, files, text):
        """Text that is no base64 is refused, wherever it stops being that."""
        with pytest.raises(InvalidField, match="is no data URL in base64"):
            await files.get(f"data:;base64,{text}", "image", origin="", metadata=())


class TestSizes:
    @pytest.mark.parametrize(
        ("size", "fits"),
        [
            ((96, 64), (96, 64)),
            ((4096, 4096), (1254, 1254)),
            ((4096, 2048), (1773, 886)),
            ((32, 32), (64, 64)),
            ((10, 20), (64, 128)),
        ],
    )
    def test_nearest(self, size, fits):
        """A picture's own size is kept as far as there are pictures of it, in its shape."""
        assert fitting(*size) == fits

    @pytest.mark.parametrize("size", [(4096, 1), (1, 4096), (1, 1), (4095, 4096), (4096, 63), (2047, 769)])
    def test_always_one_that_there_is(self, size):
        """Whatever the size, the nearest is within the limits."""
        width, height = fitting(*size)
        assert LEAST_SIDE <= width <= MOST_SIDE
        assert LEAST_SIDE <= height <= MOST_SIDE
        assert width * height <= PIXELS
