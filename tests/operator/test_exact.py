"""Finding out whether a model is bit-equal."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

import gguf
import numpy as np
import pytest

from aos.errors import ModelUnsuitable
from aos.operator.batch import Row
from aos.operator.engine import Engine
from aos.operator.exact import bit_equal
from aos.operator.llama import LlamaModel, Weights, load
from aos.operator.modes import BLOCKS, F16, FASTEST, MIXED, Q8_0, Mode
from aos.settings import bundled_model
from aos.v1.types_pb2 import DETERMINISM_BEST_EFFORT, DETERMINISM_EXACT
from tests.operator.orders import answer, asking
from tests.operator.weights import write_model


@pytest.fixture(scope="module")
def weights() -> Generator[Weights]:
    weights = Weights(bundled_model())
    yield weights
    weights.close()


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """Weights in f16, whose kernels depend on how much is computed at once."""
    path = tmp_path_factory.mktemp("models") / "half.gguf"
    return write_model(path, heads=4, size=256, kind=gguf.GGMLQuantizationType.F16)


class Uneven:
    """A model that changes the last bit of a logit where a test says so."""

    def __init__(self, model: LlamaModel, where: Callable[[Sequence[Row]], bool]) -> None:
        self._model, self._where = model, where
        self.copied = False

    def __getattr__(self, name: str):
        return getattr(self._model, name)

    def reuse(self, slot: int, source: int, count: int) -> None:
        self.copied |= slot != source
        self._model.reuse(slot, source, count)

    def decode(self, rows: Sequence[Row]):
        found = [row.copy() for row in self._model.decode(rows)]
        if found and self._where(rows):
            found[-1][7] = np.nextafter(found[-1][7], np.float32(np.inf))
        return found


class TestTrial:
    @pytest.mark.parametrize("layout", [BLOCKS, F16, Q8_0, MIXED])
    @pytest.mark.parametrize("threads", [1, 2])
    def test_holds(self, weights, layout, threads):
        """The bundled model is bit-equal in each of the exact ways."""
        model = weights.open(slots=4, context=512, threads=threads, layout=layout)
        found = bit_equal(model)
        model.close()

        assert found

    def test_fastest(self, weights):
        """The fastest way is not, and that is found out."""
        model = weights.open(slots=4, context=512, layout=FASTEST)
        found = bit_equal(model)
        model.close()

        assert not found

    @pytest.mark.parametrize(
        "where",
        [
            lambda rows: len(rows) > 1,
            lambda rows: len(rows[0].tokens) > 64,
            lambda rows: len(rows[-1].tokens) == 1,
            lambda rows: rows[-1].slot == 3,
            lambda rows: any(len(row.tokens) > 1 for row in rows) and len(rows) > 1,
        ],
        ids=["batch", "large chunk", "small chunk", "slot", "beside a prompt"],
    )
    def test_one_bit(self, weights, where):
        """A single bit that depends on how the work was shaped is enough."""
        model = weights.open(slots=4, context=512, layout=F16)
        found = bit_equal(model), bit_equal(Uneven(model, where))
        model.close()

        assert found == (True, False)

    def test_reused_prefix(self, weights):
        """So is one that depends on the prefix having been copied."""
        model = weights.open(slots=4, context=512, layout=F16)
        uneven = Uneven(model, lambda rows: uneven.copied and len(rows) > 1)
        found = bit_equal(uneven)
        model.close()

        assert not found

    @pytest.mark.parametrize("layout", [BLOCKS, F16, Q8_0, MIXED])
    def test_long_and_threads(self, weights, layout):
        """With two threads, a token alone behind 400 others has the logits that it has in company and at once."""
        model = weights.open(slots=2, context=512, threads=2, layout=layout)
        tokens = [int(token) for token in np.random.default_rng(2).integers(0, model.vocabulary, 404)]
        for slot in range(2):
            for at in range(0, 400, 100):
                model.decode([Row(slot, slot, at, tokens[at : at + 100], draws=False)])
        alone = [model.decode([Row(0, 0, at, [tokens[at]], draws=True)])[0].copy() for at in range(400, 404)]
        model.reuse(0, 0, 400)
        pairs = [[Row(slot, slot, at, [tokens[at]], draws=True) for slot in range(2)] for at in range(400, 404)]
        together = [model.decode(pair)[1].copy() for pair in pairs]
        model.reuse(0, 0, 400)
        at_once = model.decode_all(0, 400, tokens[400:]).copy()
        model.close()

        assert np.array_equal(alone, together)
        assert np.array_equal(alone, at_once)

    def test_leaves_nothing(self, weights):
        """The trial leaves the sequences empty, whatever it finds."""
        model = weights.open(slots=2, context=512, layout=Q8_0)
        row = [Row(0, 1, 0, [5, 6, 7], draws=True)]
        before = model.decode(row)[0].copy()
        bit_equal(model)
        after = model.decode(row)[0].copy()
        model.close()

        assert np.array_equal(before, after)

    @pytest.mark.parametrize("context", [2, 9, 40])
    def test_short_context(self, weights, context):
        """A context that is too short for the whole trial has a shorter one."""
        model = weights.open(slots=2, context=context)
        model.close()

        assert model.exact


class TestOpening:
    def test_many_threads(self, weights):
        """With many threads, the cheapest way is another."""
        model = weights.open(slots=2, context=256, threads=3)
        model.close()

        assert model.layout == Q8_0

    def test_odd_heads(self, tmp_path):
        """Heads that cannot be quantised do not keep a model from being exact, not even where a receipt says that they were."""
        weights = Weights(write_model(tmp_path / "narrow.gguf", heads=2))
        many, named = weights.open(threads=3), weights.open(threads=3, layout=Q8_0)
        for one in (many, named, weights):
            one.close()

        assert many.layout == named.layout == MIXED

    def test_asked_for_the_fastest(self, weights):
        """A model that is opened for best effort says so."""
        model = weights.open(slots=2, context=256, mode=Mode.BEST_EFFORT)
        model.close()

        assert not model.exact
        assert model.profile.endswith(" kv=f16 fa=on ubatch=256 determinism=best_effort")

    def test_f16_weights(self, half):
        """Weights that no way makes exact run at their fastest, and their profile says what they are."""
        model = load(half, slots=4)
        model.close()

        assert not model.exact
        assert model.layout == FASTEST


class TestOrders:
    async def test_refused(self, half):
        """An order that must be exact is refused by a model that is not, before any work."""
        model = load(half, slots=2)
        async with Engine("half", model) as engine:
            order = asking("Hi", max_tokens=3)
            order.determinism = DETERMINISM_EXACT
            with pytest.raises(ModelUnsuitable, match="the same bits whatever the load"):
                await answer(engine, order)
        model.close()

    @pytest.mark.parametrize("determinism", [0, DETERMINISM_BEST_EFFORT])
    async def test_taken(self, half, determinism):
        """Other orders it takes."""
        model = load(half, slots=2)
        async with Engine("half", model) as engine:
            order = asking("Hi", max_tokens=3)
            order.determinism = determinism
            got = await answer(engine, order)
        model.close()

        assert len(got.end.tokens) <= 3

    async def test_exact(self, real):
        """A model that is exact takes orders that must be."""
        order = asking("What is AI?", max_tokens=3)
        order.determinism = DETERMINISM_EXACT

        assert (await answer(real, order)).end.tokens
