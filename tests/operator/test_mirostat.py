"""Mirostat: the surprise of an answer stays near a target, and an answer that is taken up elsewhere goes on as if it had stayed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aos.errors import InvalidField
from aos.operator.engine import Engine
from aos.operator.mirostat import Mirostat
from aos.operator.penalties import History
from aos.operator.replay import replay_on
from aos.operator.sampling import Draw, draw, follow
from aos.order import canonical_sampling, check_order, with_defaults
from aos.v1 import types_pb2 as pb
from tests.operator.orders import answer, asking, chatting
from tests.operator.test_replay import bundle

# quarters, so that equal logits come about
LOGITS = st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=1, max_size=24).map(lambda n: np.array(n, np.float32))
HOW = st.builds(Mirostat, tau=st.floats(0.1, 20), eta=st.floats(0.01, 1.0))


def reference(logits: np.ndarray, how: Draw, mu: float) -> tuple[list[int], np.ndarray]:
    """Return the tokens that are kept and their probabilities, in the paper's own words: sort, cut behind ``mu``, renormalise."""
    scaled = logits.astype(np.float64) / how.temperature
    probabilities = np.exp(scaled - scaled.max())
    probabilities /= probabilities.sum()
    ranked = sorted(range(len(logits)), key=lambda token: (-probabilities[token], token))
    few = [token for token in ranked if probabilities[token] > 0 and -math.log2(probabilities[token]) <= mu + 1e-9] or ranked[:1]
    return sorted(few), probabilities / probabilities[few].sum()


class TestDraw:
    @settings(deadline=None, max_examples=100)
    @given(rows=st.lists(LOGITS, min_size=1, max_size=12), mirostat=HOW, seed=st.integers(0, 2**63 - 1))
    def test_algorithm(self, rows, mirostat, seed):
        """Each token is one whose surprise is at most mu, and mu moves by eta times its distance from the target."""
        how, history, mu = Draw(temperature=0.8, seed=seed, mirostat=mirostat), History(), 2 * mirostat.tau
        for position, logits in enumerate(rows):
            token = draw(logits, how, position, history)

            few, probabilities = reference(logits, how, mu)
            assert token in few
            mu -= mirostat.eta * (-math.log2(probabilities[token]) - mirostat.tau)
            assert history.mu == pytest.approx(mu, abs=1e-6)
            mu = history.mu
            history.add(token)

    @settings(deadline=None, max_examples=50)
    @given(rows=st.lists(LOGITS, min_size=2, max_size=12), mirostat=HOW, seed=st.integers(0, 2**63 - 1), data=st.data())
    def test_follow(self, rows, mirostat, seed, data):
        """Following tokens that were drawn elsewhere leaves mu, to the bit, where drawing them left it."""
        how, own, other = Draw(temperature=1.1, seed=seed, mirostat=mirostat), History(), History()
        accepted = data.draw(st.integers(0, len(rows)))
        for position, logits in enumerate(rows):
            token = draw(logits, how, position, own)
            own.add(token)
            if position < accepted:
                follow(logits, how, other, token)
            else:
                assert draw(logits, how, position, other) == token
            other.add(token)

        assert own.mu == other.mu

    def test_most_surprising_token(self):
        """A token that would not have been kept here moves mu by a bounded amount."""
        how, history = Draw(temperature=1.0, mirostat=Mirostat(tau=1.0, eta=1.0)), History()

        follow(np.array([100, 0, 0], np.float32), how, history, 2)

        assert history.mu == 2 - (64 - 1)

    def test_surprise_comes_near_the_target(self):
        """Over many tokens of a flat distribution the mean surprise is the target."""
        random = np.random.default_rng(5)
        mirostat = Mirostat(tau=3.0, eta=0.1)
        how, history, surprises = Draw(temperature=1.0, seed=1, mirostat=mirostat), History(), []
        for position in range(600):
            before = mirostat.start if history.mu is None else history.mu
            history.add(draw(random.normal(scale=2, size=512).astype(np.float32), how, position, history))
            surprises.append((before - history.mu) / mirostat.eta + mirostat.tau)

        assert np.mean(surprises[100:]) == pytest.approx(3.0, abs=0.25)


class TestOrder:
    def test_defaults_are_stated(self):
        """The receipt's parameters name the target and the rate also where the order left them open."""
        order = with_defaults(asking(temperature=0.8, mirostat=pb.Mirostat()), job=bytes(32))

        assert '"mirostat":{"eta":0.1,"tau":5}' in canonical_sampling(order.sampling)
        check_order(order)

    @pytest.mark.parametrize(
        ("field", "sampling"),
        [
            ("order.sampling.mirostat", {"temperature": 0.0}),
            ("order.sampling.mirostat", {}),
            ("order.sampling.top_k", {"temperature": 1.0, "top_k": 40}),
            ("order.sampling.top_p", {"temperature": 1.0, "top_p": 0.9}),
            ("order.sampling.min_p", {"temperature": 1.0, "min_p": 0.1}),
            ("order.sampling.typical_p", {"temperature": 1.0, "typical_p": 0.9}),
            ("order.sampling.mirostat.tau", {"temperature": 1.0, "mirostat": pb.Mirostat(tau=20.5)}),
            ("order.sampling.mirostat.tau", {"temperature": 1.0, "mirostat": pb.Mirostat(tau=math.nan)}),
            ("order.sampling.mirostat.eta", {"temperature": 1.0, "mirostat": pb.Mirostat(eta=-0.1)}),
        ],
    )
    def test_refused(self, field, sampling):
        """Parameters that contradict it, and numbers out of range, are refused by name."""
        with pytest.raises(InvalidField) as refused:
            check_order(asking(**({"mirostat": pb.Mirostat()} | sampling)))

        assert refused.value.facts["field"] == field


class TestEngine:
    async def test_resumed(self, real: Engine):
        """An answer that another operator goes on with is the same to the bit, wherever it is taken up."""
        order = chatting(
            "What is AI?", temperature=1.2, seed=7, max_tokens=24, mirostat=pb.Mirostat(tau=4, eta=0.5), repetition_penalty=1.1
        )
        whole = await answer(real, order)
        assert len(whole.tokens) > 8

        for count in (1, 2, len(whole.tokens) // 2, len(whole.tokens) - 1, len(whole.tokens)):
            rest = await answer(real, order, accepted=whole.tokens[:count])

            assert rest.tokens == whole.tokens[count:]
            assert (rest.end.text, rest.end.tokens) == (whole.end.text, whole.end.tokens)

    async def test_resumed_in_its_form(self, real: Engine):
        """So is one that must have a form: only what may come there counts for the surprise."""
        order = chatting("Say it.", temperature=1.5, seed=3, max_tokens=24, mirostat=pb.Mirostat(tau=3, eta=0.5))
        order.constraint.regex = "[a-z ]{60}"
        whole = await answer(real, order)

        for count in (1, 5, len(whole.tokens) - 1):
            assert (await answer(real, order, accepted=whole.tokens[:count])).end.tokens == whole.end.tokens

    async def test_run_again(self, demo):
        """`aos verify --model` finds the same tokens again."""
        order = chatting("What is AI?", temperature=1.2, seed=7, max_tokens=24, mirostat=pb.Mirostat(tau=4))

        finding = await replay_on(await bundle(demo, order), demo)

        assert finding.good, finding.why

    async def test_changes_the_answer(self, real: Engine):
        """It matters: another target gives another answer from the same seed."""
        low, high = [
            await answer(
                real, chatting("What is AI?", temperature=1.5, seed=7, max_tokens=24, mirostat=pb.Mirostat(tau=tau, eta=1))
            )
            for tau in (0.1, 10)
        ]

        assert low.tokens != high.tokens
