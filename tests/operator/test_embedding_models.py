"""Embeddings by llama.cpp: what a model file says about them, and leases that another operator has begun."""

from __future__ import annotations

import gc

import gguf
import llama_cpp
import numpy as np
import pytest

from aos.errors import InvalidField, ShuttingDown
from aos.operator.embedding import Abandoned, arrays, messages
from aos.operator.llama import LlamaModel, load
from aos.operator.replay import replay, replay_on
from aos.order import digest_tokens
from aos.settings import bundled_model
from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.v1.errors_pb2 import ErrorReason
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import EmbeddingInput, Order
from aos.verification.receipts import embeddings_digest
from tests.operator.dispatching import running_network
from tests.operator.weights import write_model

TEXTS = ["What is AI?", "The network settles exactly from receipts. " * 9, "x"]


def vectors(model: LlamaModel, *texts: str) -> list[np.ndarray]:
    assert model.embedder is not None
    return model.embedder.embed([model.embedder.read(text) for text in texts], go_on=lambda: True)


@pytest.fixture
def opened(tmp_path):
    """Open a tiny model whose file has these values."""
    models = []

    def open_model(**more) -> LlamaModel:
        models.append(load(write_model(tmp_path / f"{len(models)}.gguf", **more), slots=1))
        return models[-1]

    yield open_model
    for model in models:
        model.close()


class TestFile:
    def test_pooling(self, opened):
        """The file says how states become a vector; of a text with one token, all ways make the same."""
        kinds = [gguf.PoolingType.NONE, gguf.PoolingType.MEAN, gguf.PoolingType.CLS, gguf.PoolingType.LAST]
        none, mean, first, last = [vectors(opened(add_pooling_type=kind), "abcabc", "a") for kind in kinds]

        assert np.array_equal(none[0], mean[0])
        assert len({one[0].tobytes() for one in (mean, first, last)}) == 3
        assert len({one[1].tobytes() for one in (none, mean, first, last)}) == 1
        # the first token sees nothing behind it
        assert np.array_equal(first[0], first[1])

    @pytest.mark.parametrize(("kind", "named"), [(gguf.PoolingType.LAST, "last"), (gguf.PoolingType.CLS, "cls")])
    def test_profile(self, opened, kind, named):
        """The receipts' profile names the pooling, and small pieces in place of blocks; it is else the model's."""
        model = opened(add_pooling_type=kind)

        assert model.embedder.profile.replace(f" pooling={named}", "") == model.profile.replace("ubatch=256 block=64", "ubatch=48")

    def test_reranker(self, opened):
        """A model whose file asks for a score of two texts turns no texts into vectors."""
        assert opened(add_pooling_type=gguf.PoolingType.RANK).embedder is None

    def test_closing_token(self, opened):
        """A model that wants a token behind each text gets it; text that is to be gone on with is left open."""
        model = opened(add_add_eos_token=True)

        assert model.embedder.read("ab") == [*model.tokenise(Order(prompt="ab")), 2]

    def test_encoder(self, opened):
        """A file whose tokens see those behind them is refused when it is loaded: llama.cpp would end the process."""
        with pytest.raises(InvalidField, match="is an encoder"):
            opened(add_causal_attention=False)


class TestLlama:
    def test_as_llama_cpp_pools(self, demo):
        """What we pool is what llama.cpp pools, but for the last bits of its cache."""
        own = vectors(demo, *TEXTS)
        theirs = llama_cpp.Llama(str(bundled_model()), embedding=True, pooling_type=1, n_ctx=1024, verbose=False)
        try:
            for text, vector in zip(TEXTS, own, strict=True):
                other = np.array(theirs.create_embedding(text)["data"][0]["embedding"])
                assert vector @ other / np.linalg.norm(other) > 0.999
        finally:
            theirs.close()
            gc.collect()

    def test_long_and_short(self, demo):
        """A text that fills the context, cut into many steps, has the same vector among short ones as alone."""
        room = demo.embedder.context - len(demo.embedder.read("x " * 300))
        long = "x " * 300 + "y" * (room // 2)
        assert len(demo.embedder.read(long)) > 300

        together = vectors(demo, "a", long, *TEXTS, long, "b c")

        assert [one.tobytes() for one in together] == [
            vectors(demo, text)[0].tobytes() for text in ("a", long, *TEXTS, long, "b c")
        ]

    def test_abandoned(self, demo):
        """It stops between two steps once nobody wants it, and computes the next ones well."""
        before = vectors(demo, "a")
        turns = iter([True, False])
        with pytest.raises(Abandoned):
            demo.embedder.embed([demo.embedder.read("word " * 400)], go_on=lambda: next(turns))

        assert np.array_equal(vectors(demo, "a")[0], before[0])

    def test_closed(self, opened):
        """A closed model computes nothing more."""
        model = opened()
        vectors(model, "a")
        tokens = model.embedder.read("a")
        model.close()

        with pytest.raises(ShuttingDown):
            model.embedder.embed([tokens], go_on=lambda: True)


class TestReplay:
    @pytest.fixture
    def stated(self, demo) -> ReceiptBundle:
        """What an operator states of these texts."""
        tokens = [token for text in TEXTS for token in demo.embedder.read(text)]
        receipt = Receipt(
            model_digest=bytes.fromhex(demo.digest), profile=demo.embedder.profile, prompt_digest=digest_tokens(tokens)
        )
        order = Order(model="m", embedding=EmbeddingInput(texts=TEXTS))
        return ReceiptBundle(receipt=receipt, order=order, embeddings=messages(vectors(demo, *TEXTS)))

    async def test_same(self, stated):
        """Vectors that the model gave come again, to the bit, from the file alone."""
        finding = await replay(stated, bundled_model())

        assert finding.good, finding.why

    async def test_another_vector(self, stated, demo):
        """A vector that the model does not give is found, even one that is near."""
        stated.embeddings[1].values[3] += 1e-6

        finding = await replay_on(stated, demo)

        assert finding.good is False
        assert "vector 2 is another: their cosine is 1.000000" in finding.why

    async def test_another_build(self, stated, demo):
        """Where another build ran, a difference proves nothing."""
        stated.embeddings[1].values[3] += 1e-6
        stated.receipt.profile = "llama.cpp/1 elsewhere"

        assert (await replay_on(stated, demo)).good is None

    async def test_too_few(self, stated, demo):
        """Fewer vectors than texts are no answer."""
        del stated.embeddings[2]

        assert (await replay_on(stated, demo)).why == "there are 2 vectors of 3 texts"


class TestLease:
    async def test_taken_up(self, tmp_path, key, demo):
        """An operator goes on behind the vectors that it is told of, and signs for all of them."""
        order, whole = Order(model="m", embedding=EmbeddingInput(texts=TEXTS)), vectors(demo, *TEXTS)
        async with running_network(tmp_path, key) as network, network.attached(demo) as (_, session):
            session.lease(order, accepted_embeddings=messages(whole[:2]))
            given = []
            while not (message := await session.hear()).HasField("finished"):
                given += [vector for one in message.chunks.chunks for vector in one.chunk.embeddings]

        receipt = message.finished.finish.receipt
        assert [one.tobytes() for one in arrays(given)] == [whole[2].tobytes()]
        assert receipt.output_digest == embeddings_digest(messages(whole))
        tokens = [token for text in TEXTS for token in demo.embedder.read(text)]
        assert (receipt.usage.prompt_tokens, receipt.prompt_digest) == (len(tokens), digest_tokens(tokens))

    async def test_refused(self, tmp_path, key, demo):
        """A text over the context comes back with its place, and is not to be tried elsewhere."""
        async with running_network(tmp_path, key) as network, network.attached(demo) as (_, session):
            session.lease(Order(model="m", embedding=EmbeddingInput(texts=["a", "word " * 2000])))
            _, _, last = await session.outcome()

        assert last.failed.error.reason == ErrorReason.ERROR_REASON_CONTEXT_OVERFLOW
        assert last.failed.error.metadata["field"] == "order.embedding.texts[1]"
        assert not last.failed.retryable
