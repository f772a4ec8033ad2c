"""Programs of controllers: compiled once, kept on disk, and loaded from there."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
import pytest_asyncio

from aos.errors import ControllerNotFound, InvalidField, ShuttingDown
from aos.operator.controllers import ARGUMENT_BYTES
from aos.operator.wasm_programs import FILES, Controllers
from tests.operator.wasm_runs import BYTES
from tests.operator.wat import NOOP, STOP, controller

MODULE = controller(NOOP)
DIGEST = hashlib.sha256(MODULE).digest()


class Source:
    """Gives a module, and counts how often."""

    def __init__(self, module: bytes = MODULE) -> None:
        self.module, self.reads = module, 0

    async def read(self) -> bytes:
        self.reads += 1
        return self.module


@pytest_asyncio.fixture
async def controllers(tmp_path):
    made = Controllers(tmp_path / "compiled")
    yield made
    await asyncio.to_thread(made.close)


@pytest.fixture
def source() -> Source:
    return Source()


class TestPrograms:
    async def test_one_is_read_and_compiled_once(self, controllers, source):
        """Whoever asks at the same time waits for the same, and later ones have it at once."""
        first, second = await asyncio.gather(*(controllers.program(DIGEST, source.read) for _ in range(2)))
        assert first is second is await controllers.program(DIGEST, source.read)
        assert source.reads == 1

    async def test_what_is_on_disk_is_used(self, controllers, source, tmp_path):
        """After a restart the module need not come again; a file that is damaged is made anew."""
        await controllers.program(DIGEST, source.read)
        (path,) = (tmp_path / "compiled").iterdir()
        for damage, reads in ((False, 1), (True, 2)):
            if damage:
                path.write_bytes(path.read_bytes()[:-1])
            later = Controllers(tmp_path / "compiled")
            assert (await later.program(DIGEST, source.read)).digest == DIGEST
            later.close()
            assert source.reads == reads

    async def test_old_files_go(self, controllers, source, tmp_path):
        """There are never more than the limit, and the one that was just used stays."""
        folder = tmp_path / "compiled"
        folder.mkdir()
        for number in range(FILES + 5):
            (folder / f"{number}.compiled").write_bytes(b"")
        await controllers.program(DIGEST, source.read)
        assert len(list(folder.iterdir())) == FILES
        assert (folder / f"{DIGEST.hex()}.compiled").stat().st_size

    async def test_another_module_is_refused(self, controllers):
        """What comes must have the digest that was asked for, and be a controller."""
        with pytest.raises(InvalidField, match="another module"):
            await controllers.program(DIGEST, Source(controller(STOP)).read)
        text = b"no Wasm"
        with pytest.raises(InvalidField, match="compile"):
            await controllers.program(hashlib.sha256(text).digest(), Source(text).read)

    async def test_a_module_that_cannot_be_had_is_asked_for_again(self, controllers, source):
        """What the source raises is raised, and does not stay."""

        async def missing() -> bytes:
            raise ControllerNotFound("controllers/1")

        with pytest.raises(ControllerNotFound):
            await controllers.program(DIGEST, missing)
        assert (await controllers.program(DIGEST, source.read)).digest == DIGEST


class TestSessions:
    async def test_an_argument_may_be_too_long(self, controllers, source):
        """One byte more than the limit is refused, and the field is named."""
        program = await controllers.program(DIGEST, source.read)
        session = await controllers.session(program, "a" * ARGUMENT_BYTES, BYTES)
        session.close()
        with pytest.raises(InvalidField, match=r"control\.argument: has at most 1048576 bytes"):
            await controllers.session(program, "a" * (ARGUMENT_BYTES - 1) + "é", BYTES)

    async def test_after_the_end_there_are_none(self, controllers, source):
        """Closing is final, and may be done twice."""
        program = await controllers.program(DIGEST, source.read)
        controllers.close()
        controllers.close()
        with pytest.raises(ShuttingDown):
            await controllers.session(program, "", BYTES)
        with pytest.raises(ShuttingDown):
            await controllers.program(DIGEST, source.read)
