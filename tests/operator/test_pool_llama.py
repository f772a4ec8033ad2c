"""GGUF files and LoRA adapters behind an operator's requests, on the real llama.cpp."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import struct
from pathlib import Path

import pytest

from aos.errors import EngineFailed, InvalidField, ShuttingDown
from aos.operator.llama import Lora, load, loaded
from aos.operator.llama.shape import shape_of
from aos.operator.modes import Mode
from aos.operator.pool import Pool
from aos.operator.replay import replay
from aos.operator.shelf import Shelf
from aos.operator.source import Source
from aos.settings import bundled_model
from tests.operator.loras import write_lora
from tests.operator.orders import answer, asking
from tests.operator.test_replay import bundle
from tests.operator.weights import write_model

SLOTS = 4
ASKED = asking("Hello there", max_tokens=12)


async def tokens(pool: Pool, name: str, mode: Mode = Mode.EXACT) -> list[int]:
    async with pool.using(name, mode) as engine:
        return (await answer(engine, ASKED)).tokens


def size_of(source: Source) -> int:
    source.measure()
    return sum(source.parts(Mode.EXACT).values())


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tiny.gguf")


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    return write_lora(tmp_path / "lora.gguf")


@pytest.fixture
def shelf() -> Shelf:
    return Shelf(slots=SLOTS)


class TestFiles:
    async def test_two_files_in_memory_for_one(self, shelf, tiny):
        """With a budget that holds either, requests for the two are answered in turn, each time the same."""
        models = {"tiny": shelf.source("tiny", tiny), "demo": shelf.source("demo", bundled_model())}
        sizes = [size_of(one) for one in models.values()]
        async with Pool(models, budget=max(sizes)) as pool:
            first = [await tokens(pool, name) for name in models]
            again = await asyncio.gather(*(tokens(pool, name) for name in (*models, *models)))
            assert sum(len(pool.engines(name)) for name in models) == 1

        assert again == first * 2
        assert first[0] != first[1]

    async def test_all_modes_share_the_weights(self, shelf, tiny):
        """A model in two modes is in memory once, and gone when both are closed."""
        models = {"tiny": shelf.source("tiny", tiny)}
        async with Pool(models) as pool:
            async with pool.using("tiny", Mode.EXACT) as exact, pool.using("tiny", Mode.BEST_EFFORT) as fast:
                assert exact.model.weights is fast.model.weights
                assert exact.model.exact
                assert not fast.model.exact
            weights = exact.model.weights
        with pytest.raises(ShuttingDown):
            weights.open()

    async def test_a_file_that_changed(self, shelf, tiny):
        """Weights that the network was not told of do not run; the pool goes on, and so do the right ones when they are back."""
        models = {"demo": shelf.source("demo", bundled_model()), "tiny": shelf.source("tiny", tiny)}
        good = tiny.read_bytes()
        async with Pool(models, budget=max(size_of(one) for one in models.values())) as pool:
            first = await tokens(pool, "tiny")
            for spoil, words in (
                (lambda: write_model(tiny, seed=1), "was changed since"),
                (lambda: tiny.write_bytes(good[:2000]), "was changed since"),
                (tiny.unlink, "cannot be read"),
            ):
                assert len(await tokens(pool, "demo")) == 12
                spoil()
                with pytest.raises(EngineFailed, match=words):
                    await tokens(pool, "tiny")
            tiny.write_bytes(good)

            assert await tokens(pool, "tiny") == first

    @pytest.mark.parametrize("path", ["tiny.gguf", "demo"])
    def test_the_estimate_covers_what_llama_takes(self, tiny, caplog, path):
        """What a model is expected to take is at least what llama.cpp says, vectors included, and not 4 times as much."""
        file = tiny if path == "tiny.gguf" else bundled_model()
        shape = shape_of(file, "m")
        with caplog.at_level(logging.DEBUG, "aos.operator.llama"):
            model = load(file, slots=SLOTS, mode=Mode.BEST_EFFORT)
            model.embedder.embed([[1, 2]], go_on=lambda: True)
            model.close()
        said = [float(size) for size in re.findall(r"(?:KV|compute|output) buffer size = +([0-9.]+) MiB", caplog.text)]
        taken = sum(said) * 2**20

        assert len(said) == 6
        assert taken <= shape.context_bytes(slots=SLOTS, context=0) <= 4 * taken
        assert shape.weights == file.stat().st_size


class TestAdapters:
    async def test_an_adapter_changes_the_answer(self, shelf, tiny, lora):
        """A LoRA adapter is a model of its own over shared weights; at scale 0 it answers as its base does. All run at once."""
        models = {
            "base": shelf.source("base", tiny),
            "tuned": shelf.source("tuned", tiny, Lora(lora)),
            "none": shelf.source("none", tiny, Lora(lora, 0.0)),
        }
        async with Pool(models) as pool:
            alone = {name: await tokens(pool, name) for name in models}
            together = await asyncio.gather(*(tokens(pool, name) for name in models for _ in range(3)))
            async with pool.using("base", Mode.EXACT) as one, pool.using("tuned", Mode.EXACT) as other:
                assert one.model.weights is other.model.weights

        assert together == [alone[name] for name in models for _ in range(3)]
        assert alone["base"] == alone["none"] != alone["tuned"]

    async def test_the_digest_names_all_of_it(self, shelf, tiny, lora):
        """A receipt's model_digest covers base, adapter and scale; without an adapter it is the file's."""
        models = {"base": shelf.source("base", tiny), "tuned": shelf.source("tuned", tiny, Lora(lora, 0.5))}
        async with Pool(models) as pool:
            facts = pool.facts
        base, adapter = (hashlib.sha256(path.read_bytes()) for path in (tiny, lora))
        both = hashlib.sha256(b"lora" + base.digest() + adapter.digest() + struct.pack(">f", 0.5))

        assert (facts["base"].digest, facts["base"].adapter_digest) == (base.hexdigest(), "")
        assert (facts["tuned"].digest, facts["tuned"].adapter_digest) == (both.hexdigest(), adapter.hexdigest())

    async def test_an_adapter_that_changed(self, shelf, tiny, lora):
        """As little as other weights does another adapter run under the name of the first."""
        models = {"demo": shelf.source("demo", bundled_model()), "tuned": shelf.source("tuned", tiny, Lora(lora))}
        async with Pool(models, budget=max(size_of(one) for one in models.values())) as pool:
            assert len(await tokens(pool, "demo")) == 12
            write_lora(lora, seed=1)
            with pytest.raises(EngineFailed, match=r"lora\.gguf was changed since"):
                await tokens(pool, "tuned")

    async def test_an_answer_run_again(self, tiny, lora):
        """A receipt of an adapter's answer holds on base and adapter at that scale; anything else are other weights."""
        async with loaded(tiny, lora=Lora(lora, 0.5)) as model:
            made = await bundle(model, ASKED)

        assert (await replay(made, tiny, Lora(lora, 0.5))).good
        assert (await replay(made, tiny, Lora(lora, 0.25))).good is None
        assert (await replay(made, tiny)).good is None

    async def test_an_adapter_that_does_not_fit(self, shelf, tiny, tmp_path):
        """One for a model of other dimensions, one that is none, and one that is no GGUF are refused at the start."""
        (tmp_path / "text.gguf").write_text("no adapter")
        wrong = {
            write_lora(tmp_path / "wide.gguf", size=64): (EngineFailed, "cannot load the adapter"),
            write_lora(tmp_path / "kind.gguf", kind="other"): (EngineFailed, "cannot load the adapter"),
            tmp_path / "text.gguf": (InvalidField, "not a GGUF"),
            tmp_path / "none.gguf": (InvalidField, "cannot be read"),
        }
        for path, (kind, words) in wrong.items():
            with pytest.raises(kind, match=words):
                async with Pool({"base": shelf.source("base", tiny), "tuned": shelf.source("tuned", tiny, Lora(path))}):
                    pass
        async with Pool({"base": shelf.source("base", tiny)}) as pool:
            assert len(await tokens(pool, "base")) == 12
