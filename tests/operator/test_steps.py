"""What an operator keeps of its steps."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aos.operator.engine import Engine
from aos.operator.steps import AHEAD, Steps, Witness, largest, leaves
from aos.testing.scripted import END, ScriptedModel
from aos.verification.trace import TOP, read_steps
from tests.operator.orders import answer, asking


class TestLargest:
    @given(
        st.tuples(st.integers(1, 3), st.integers(1, 1200)).flatmap(
            lambda shape: arrays(np.float32, shape, elements=st.integers(-6, 6).map(float), fill=st.integers(-6, 6).map(float))
        )
    )
    def test_order(self, rows):
        """They are what sorting everything gives, the lower id first among equals."""
        ids, values = largest(rows, TOP)

        everything = np.array([np.lexsort((np.arange(rows.shape[1]), -row))[:TOP] for row in rows])
        assert (ids == everything).all()
        assert (values == np.take_along_axis(rows, everything, axis=1)).all()


class TestLeaves:
    def test_of_a_row(self):
        """A leaf has the hash of the logits' bytes, and the likeliest tokens with their logits in 65536ths."""
        row = np.linspace(-3, 3, 700, dtype=np.float32)

        step, other = read_steps(leaves(0, [5, 6], np.stack([row, -row])))

        assert (step.position, step.token, step.logits) == (0, 5, hashlib.sha256(row.tobytes()).digest())
        assert step.top == tuple((at, round(float(row[at]) * 65536)) for at in range(699, 691, -1))
        assert other.top[0] == (0, 3 << 16)

    def test_far_out(self):
        """Logits beyond what has room are the last that has."""
        (step,) = read_steps(leaves(0, [1], np.array([[-np.inf, 1e9, 0.5, -1e9]], np.float32)))

        assert step.top == ((1, 2**31 - 1), (2, 1 << 15), (3, -(2**31)), (0, -(2**31)))


class TestSteps:
    @pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 64 * (AHEAD + 2)])
    def test_in_order(self, count):
        """Steps come in the order in which they were seen, however they are cut into blocks, and from logits that change since."""
        witness, row = Witness("m", 300), np.zeros(300, np.float32)
        steps = Steps(witness)
        for at in range(count):
            row[at % 300] += 1
            steps.saw(at, row)
        witness.hand_over()

        assert [(step.position, step.token) for step in read_steps(steps.packed())] == [(at, at) for at in range(count)]
        witness.close()

    async def test_of_an_answer(self):
        """An answer has a step for each token and one for the token that ended it; what an order adds to logits is not in them."""
        async with Engine("m", ScriptedModel("yes")) as engine:
            plain = await answer(engine, asking())
            biased = await answer(engine, asking(logit_bias={5: 50.0}, temperature=0.5))

        steps = read_steps(plain.end.steps.packed())
        assert [step.token for step in steps] == [*b"yes", END]
        assert plain.end.steps.packed() == biased.end.steps.packed()
