"""What bias and penalties make of the logits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aos.errors import InvalidField
from aos.operator.penalties import REPETITION_WINDOW, Changes, History
from aos.v1.types_pb2 import Sampling

TOKENS = 12
LOGITS = st.lists(st.floats(-40, 40, width=32), min_size=TOKENS, max_size=TOKENS).map(lambda n: np.array(n, np.float32))
SOME = st.lists(st.integers(0, TOKENS - 1), max_size=20)
CHANGES = st.builds(
    lambda repetition, presence, frequency, bias: Changes(repetition, presence, frequency, tuple(bias), tuple(bias.values())),
    st.floats(0.1, 10),
    st.floats(-2, 2),
    st.floats(-2, 2),
    st.dictionaries(st.integers(0, TOKENS - 1), st.floats(-100, 100), max_size=5),
)


def plainly(logits: np.ndarray, changes: Changes, prompt: list[int], answer: list[int]) -> list[np.float32]:
    """Return what each token's logit becomes, one token at a time."""
    single, changed = np.float32, []
    for token, given_logit in enumerate(logits):
        logit = given_logit
        for biased, bias in zip(changes.biased, changes.bias, strict=True):
            logit = logit + single(bias) if biased == token else logit
        if token in [*prompt, *answer][-REPETITION_WINDOW:]:
            penalty = single(changes.repetition_penalty)
            logit = logit / penalty if logit > 0 else logit * penalty
        if count := answer.count(token):
            logit = logit - (single(count) * single(changes.frequency_penalty) + single(changes.presence_penalty))
        changed.append(logit)
    return changed


class TestApplied:
    @settings(deadline=None)
    @given(LOGITS, CHANGES, SOME, SOME)
    def test_as_the_plain_way_does(self, logits, changes, prompt, answer):
        """Every logit is what going through the tokens one by one gives, to the bit; those given are left alone."""
        before = logits.copy()

        changed = changes.applied(logits, History(prompt, answer))

        assert changed.tolist() == plainly(before, changes, prompt, answer)
        assert logits.tolist() == before.tolist()

    def test_repetition_sees_the_prompt(self):
        """The repetition penalty is for tokens of the prompt, too; the others are for the answer's alone."""
        logits, history = np.array([2.0, -2.0, 2.0], np.float32), History([0, 1], [])

        assert Changes(repetition_penalty=2).applied(logits, history).tolist() == [1.0, -4.0, 2.0]
        assert Changes(presence_penalty=1, frequency_penalty=1).applied(logits, history).tolist() == logits.tolist()

    def test_frequency_counts(self):
        """The frequency penalty counts a token's occurrences, the presence penalty does not."""
        logits, history = np.zeros(3, np.float32), History([], [1, 1, 2])

        assert Changes(frequency_penalty=1).applied(logits, history).tolist() == [0, -2, -1]
        assert Changes(presence_penalty=1).applied(logits, history).tolist() == [0, -1, -1]

    def test_repetition_has_a_window(self):
        """What was said longer ago than the window may be said again for nothing."""
        logits = np.ones(3, np.float32)
        history = History([2], [0] * (REPETITION_WINDOW - 1))
        assert Changes(repetition_penalty=2).applied(logits, history).tolist() == [0.5, 1, 0.5]

        history.add(0)

        assert Changes(repetition_penalty=2).applied(logits, history).tolist() == [0.5, 1, 1]


class TestOf:
    def test_nothing_asked(self):
        """An order that asks for nothing, or for what changes nothing, costs nothing."""
        assert Changes.of(Sampling(), TOKENS) is None
        assert Changes.of(Sampling(repetition_penalty=1, presence_penalty=0, frequency_penalty=0), TOKENS) is None

    def test_all_is_read(self):
        """Each parameter has its place."""
        asked = Sampling(repetition_penalty=1.5, presence_penalty=0.25, frequency_penalty=-0.5, logit_bias={7: -100, 2: 1})

        assert Changes.of(asked, TOKENS) == Changes(1.5, 0.25, -0.5, (2, 7), (1.0, -100.0))

    def test_unknown_token(self):
        """A bias for a token that the model does not have is refused by name."""
        assert Changes.of(Sampling(logit_bias={TOKENS - 1: 1}), TOKENS) is not None
        with pytest.raises(InvalidField) as caught:
            Changes.of(Sampling(logit_bias={TOKENS: 1}), TOKENS)
        assert caught.value.facts["field"] == f"order.sampling.logit_bias[{TOKENS}]"
