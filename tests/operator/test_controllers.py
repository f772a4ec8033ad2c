"""What controllers are told and what they answer."""

from __future__ import annotations

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.operator.controllers import (
    FORKS,
    RESULT_BYTES,
    RESULT_PARTS,
    RESULT_TOKENS,
    TOO_MANY_FORKS,
    Applied,
    BadResult,
    Before,
    Choice,
    Splice,
    init_prompt_argument,
    mid_argument,
    old_mid_argument,
    packed,
    post_argument,
    read_before,
    read_decision,
    read_mask,
    read_old_decision,
    read_prompt,
    read_stop,
    words,
)

TOKENS = 100
MASK = packed([1, 99], TOKENS)


def decided(*branches: object) -> bytes:
    return json.dumps({"branches": branches}).encode()


def spliced(backtrack: object = 0, tokens: object = (), when: object = ()) -> dict[str, object]:
    return {"backtrack": backtrack, "ff_tokens": tokens, "when_sampled": when}


class TestWhatIsTold:
    def test_all_fields_are_there(self):
        """A guest's reader may insist on each field; `sampled` is null where nothing was drawn."""
        assert json.loads(mid_argument(Applied(), (0,))) == {"backtrack": 0, "tokens": [], "sampled": None, "fork_group": [0]}
        told = {"backtrack": 2, "tokens": [5], "sampled": 5, "fork_group": [0, 3]}
        assert json.loads(mid_argument(Applied(2, (5,), 5), (0, 3))) == told
        assert json.loads(init_prompt_argument([1, 2])) == {"prompt": [1, 2]}
        assert json.loads(old_mid_argument((0, 1))) == {"fork_group": [0, 1]}
        assert json.loads(post_argument(Applied(1, (7,)))) == {"tokens": [7], "backtrack": 1}


class TestPrompts:
    def test_one_may_be_replaced(self):
        """What the result says replaces the prompt; a result that says nothing leaves it."""
        assert read_prompt(b'{"prompt":[3,4]}', [1], TOKENS) == (3, 4)
        assert read_prompt(b'{"prompt":[]}', [1], TOKENS) == ()
        assert read_prompt(b"{}", [1, 2], TOKENS) == (1, 2)
        assert read_prompt(b'{"prompt":null}', [1, 2], TOKENS) == (1, 2)

    @pytest.mark.parametrize("result", [b"[]", b'{"prompt":7}', b'{"prompt":[100]}', b'{"prompt":[-1]}', b'{"prompt":[true]}'])
    def test_one_has_tokens(self, result):
        """What is no list of tokens of this model is refused."""
        with pytest.raises(BadResult):
            read_prompt(result, [1], TOKENS)


class TestDecisions:
    def test_none_stops(self):
        """No branches: the branch stops."""
        assert read_decision(decided(), {}, TOKENS) == ()

    def test_each_branch_is_read(self):
        """A draw, a splice, a draw with conditions and another temperature; fields that are not there are empty."""
        draw = {"sample_mask": 0, "temperature": None, "splices": []}
        later = {"sample_mask": 16, "splices": [spliced(1, [5], [9])], "temperature": 0.5, "other": 1}
        put = {"sample_mask": None, "splices": [{"backtrack": 2, "ff_tokens": [1, 2]}]}
        choices = read_decision(decided(draw, put, later), {0: MASK, 16: MASK}, TOKENS)
        assert [one.splices for one in choices] == [(), (Splice(2, (1, 2)),), (Splice(1, (5,), (9,)),)]
        assert [one.mask is MASK for one in choices] == [True, False, True]
        assert [one.temperature for one in choices] == [None, None, 0.5]

    @pytest.mark.parametrize(
        "branch",
        [
            1,
            {},
            {"sample_mask": 4, "splices": []},
            {"sample_mask": "0", "splices": []},
            {"sample_mask": True, "splices": []},
            {"sample_mask": None, "splices": [spliced(), spliced()]},
            {"sample_mask": None, "splices": [spliced(when=[1])]},
            {"sample_mask": 0, "splices": {}},
            {"sample_mask": 0, "splices": [1]},
            {"sample_mask": None, "splices": [spliced(backtrack=-1)]},
            {"sample_mask": None, "splices": [spliced(backtrack=1 << 32)]},
            {"sample_mask": None, "splices": [spliced(backtrack=0.5)]},
            {"sample_mask": None, "splices": [spliced(tokens=[100])]},
            {"sample_mask": None, "splices": [spliced(tokens="1")]},
            {"sample_mask": 0, "splices": [spliced(when=[-1])]},
            {"sample_mask": 0, "splices": [], "temperature": -1},
            {"sample_mask": 0, "splices": [], "temperature": float("nan")},
            {"sample_mask": 0, "splices": [], "temperature": float("inf")},
            {"sample_mask": 0, "splices": [], "temperature": True},
            {"sample_mask": 0, "splices": [], "temperature": 10**400},
            {"sample_mask": 0, "splices": [], "temperature": "1"},
        ],
    )
    def test_what_is_none_is_refused(self, branch):
        """Offsets of masks that were not handed out, tokens that there are not, wrong types, wrong numbers."""
        with pytest.raises(BadResult):
            read_decision(decided(branch), {0: MASK}, TOKENS)

    @pytest.mark.parametrize(
        "result", [b"", b"\xff", b"{", b"[]", b"{}", b'{"branches":1}', b"[" * 5000, b"9" * 5000, b" " * (RESULT_BYTES + 1)]
    )
    def test_what_is_no_json_is_refused(self, result):
        """Whatever bytes come, the answer is a reason."""
        with pytest.raises(BadResult):
            read_decision(result, {}, TOKENS)

    @pytest.mark.parametrize(
        ("result", "said"),
        [
            (decided({"splices": [spliced(0, [1] * (RESULT_TOKENS + 4 * RESULT_PARTS))]}), "65536 tokens"),
            (b'{"branches":[' + b"[]," * RESULT_PARTS + b"[]]}", "4096 objects and lists"),
        ],
    )
    def test_what_takes_long_to_read_is_refused(self, result, said):
        """A result may fill the context, not the time of others."""
        with pytest.raises(BadResult, match=said):
            read_decision(result, {}, TOKENS)
        most = {"splices": [spliced(0, [1] * RESULT_TOKENS)]}
        assert len(read_decision(decided(most), {}, TOKENS)[0].splices[0].tokens) == RESULT_TOKENS

    def test_there_are_not_too_many_branches(self):
        """Sixteen may be; one more is refused in the words that clients know."""
        noop = {"sample_mask": None, "splices": [spliced()]}
        assert len(read_decision(decided(*[noop] * FORKS), {}, TOKENS)) == FORKS
        with pytest.raises(BadResult, match=TOO_MANY_FORKS.replace("(", r"\(").replace(")", r"\)")):
            read_decision(decided(*[noop] * (FORKS + 1)), {}, TOKENS)

    @given(st.binary(max_size=200))
    def test_no_bytes_do_harm(self, result):
        """Any bytes are a decision or refused; almost all are refused."""
        with suppress(BadResult):
            assert isinstance(read_decision(result, {0: MASK}, TOKENS), tuple)


class TestOldest:
    def test_a_stop_draws_the_end(self):
        """`Stop` allows only the token that ends an answer."""
        (choice,) = read_old_decision(b'"Stop"', None, TOKENS, 99)
        assert choice.mask is not None
        assert np.array_equal(choice.mask, packed([99], TOKENS))

    def test_a_draw_uses_the_mask_of_the_callback(self):
        """`SampleWithBias` takes the mask that was handed over, and is refused without one."""
        assert read_old_decision(b'{"SampleWithBias":{}}', MASK, TOKENS, 99)[0].mask is MASK
        with pytest.raises(BadResult):
            read_old_decision(b'{"SampleWithBias":{}}', None, TOKENS, 99)

    def test_a_splice_counts_the_token_that_was_to_come(self):
        """Taking back one token takes back none, because none was drawn."""
        result = b'{"Splice":{"backtrack":3,"ff_tokens":[5]}}'
        assert read_old_decision(result, None, TOKENS, 99) == (Choice(None, (Splice(2, (5,)),)),)
        assert read_old_decision(result.replace(b"3", b"0"), None, TOKENS, 99) == (Choice(None, (Splice(0, (5,)),)),)

    @pytest.mark.parametrize("result", [b'"Go"', b"{}", b"3", b'{"Splice":1}'])
    def test_what_is_none_is_refused(self, result):
        """Anything else is no decision."""
        with pytest.raises(BadResult):
            read_old_decision(result, MASK, TOKENS, 99)

    def test_what_comes_before_and_after(self):
        """Forks, waiting and tokens come before a draw; whether to stop comes after."""
        assert read_before(b'{"num_forks":3,"suspend":true,"ff_tokens":[1]}', TOKENS) == Before(3, True, (1,))
        assert read_before(b"{}", TOKENS) == Before(1, False, ())
        assert read_stop(b'{"stop":true}')
        assert not read_stop(b"{}")
        for result in (b'{"suspend":1}', b'{"num_forks":17}', b'{"num_forks":-1}', b'{"ff_tokens":[100]}'):
            with pytest.raises(BadResult):
                read_before(result, TOKENS)
        with pytest.raises(BadResult):
            read_stop(b'{"stop":1}')


class TestMasks:
    @given(st.data(), st.integers(1, 200))
    def test_a_bit_is_a_token(self, data, vocabulary):
        """Token i is bit i % 32 of word i // 32, and packing and reading agree with counting bits one by one."""
        tokens = data.draw(st.lists(st.integers(0, vocabulary - 1)))
        mask = packed(tokens, vocabulary)
        assert len(mask) == words(vocabulary)
        found = [token for token in range(32 * len(mask)) if int(mask[token // 32]) >> token % 32 & 1]
        assert found == sorted(set(tokens))
        assert np.array_equal(read_mask(mask.tobytes(), vocabulary), mask)

    @given(st.integers(1, 200))
    def test_what_is_no_token_is_ignored(self, vocabulary):
        """Bits behind the vocabulary are 0, whatever the controller set."""
        mask = read_mask(b"\xff" * 4 * words(vocabulary), vocabulary)
        assert sum(int(word).bit_count() for word in mask) == vocabulary
