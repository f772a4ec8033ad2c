from __future__ import annotations

import hashlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.errors import InvalidField
from aos.order import (
    DEFAULT_MAX_TOKENS,
    SEED_MAX,
    canonical_order,
    canonical_sampling,
    check_order,
    cost,
    digest_order,
    digest_tokens,
    with_defaults,
)
from aos.v1.types_pb2 import (
    DETERMINISM_BEST_EFFORT,
    DETERMINISM_EXACT,
    Chat,
    ChatMessage,
    Choices,
    Constraint,
    Order,
    Price,
    Sampling,
)

MEBI = 1 << 20
UINT32 = (1 << 32) - 1


def chat(*messages: tuple[str, str]) -> Order:
    return Order(model="m", chat=Chat(messages=[ChatMessage(role=role, content=content) for role, content in messages]))


def sampled(**parameters) -> Order:
    return Order(model="m", prompt="p", sampling=Sampling(**parameters))


EDGES = {
    "model of 1": Order(model="m", prompt="p"),
    "model of 128": Order(model="m" * 128, prompt="p"),
    "prompt of 1 MiB": Order(model="m", prompt="p" * MEBI),
    "one message": chat(("user", "p")),
    "an empty message": chat(("assistant", "")),
    "1024 messages of 1 MiB": chat(*(("user", "p" * 1024),) * 1024),
    "temperature 0": sampled(temperature=0),
    "temperature 2": sampled(temperature=2),
    "least top_p": sampled(top_p=math.ulp(0)),
    "top_p 1": sampled(top_p=1),
    "max_tokens 1": sampled(max_tokens=1),
    "max_tokens 2^20": sampled(max_tokens=MEBI),
    "seed 0": sampled(seed=0),
    "seed 2^63-1": sampled(seed=SEED_MAX),
    "16 stops of 256 bytes": sampled(stop=["é" * 128] * 16),
    "min_p 0": sampled(min_p=0),
    "min_p 1": sampled(min_p=1),
    "least typical_p": sampled(typical_p=math.ulp(0)),
    "typical_p 1": sampled(typical_p=1),
    "repetition_penalty 0.1": sampled(repetition_penalty=0.1),
    "repetition_penalty 10": sampled(repetition_penalty=10),
    "penalties -2": sampled(presence_penalty=-2, frequency_penalty=-2),
    "penalties 2": sampled(presence_penalty=2, frequency_penalty=2),
    "300 biases": sampled(logit_bias=dict.fromkeys(range(299), -100) | {UINT32: 100}),
    "logprobs alone": sampled(logprobs=True),
    "20 top_logprobs": sampled(logprobs=True, top_logprobs=20),
}

BEYOND = [
    ("order.model", Order(prompt="p")),
    ("order.model", Order(model="m" * 129, prompt="p")),
    ("order.prompt", Order(model="m")),
    ("order.prompt", Order(model="m", prompt="")),
    ("order.prompt", Order(model="m", prompt="p" * (MEBI + 1))),
    ("order.prompt", Order(model="m", prompt="é" * (MEBI // 2) + "p")),
    ("order.chat.messages", chat()),
    ("order.chat.messages", chat(*(("user", ""),) * 1025)),
    ("order.chat.messages", chat(("user", "p" * MEBI), ("user", "p"))),
    ("order.chat.messages[1].role", chat(("user", "p"), ("narrator", "p"))),
    ("order.sampling.temperature", sampled(temperature=-0.01)),
    ("order.sampling.temperature", sampled(temperature=2.01)),
    ("order.sampling.temperature", sampled(temperature=math.nan)),
    ("order.sampling.top_p", sampled(top_p=0)),
    ("order.sampling.top_p", sampled(top_p=1.01)),
    ("order.sampling.top_p", sampled(top_p=math.nan)),
    ("order.sampling.max_tokens", sampled(max_tokens=0)),
    ("order.sampling.max_tokens", sampled(max_tokens=MEBI + 1)),
    ("order.sampling.seed", sampled(seed=SEED_MAX + 1)),
    ("order.sampling.stop", sampled(stop=["s"] * 17)),
    ("order.sampling.stop[1]", sampled(stop=["s", ""])),
    ("order.sampling.stop[0]", sampled(stop=["s" * 257])),
    ("order.sampling.min_p", sampled(min_p=-0.01)),
    ("order.sampling.min_p", sampled(min_p=1.01)),
    ("order.sampling.typical_p", sampled(typical_p=0)),
    ("order.sampling.typical_p", sampled(typical_p=math.nan)),
    ("order.sampling.repetition_penalty", sampled(repetition_penalty=0.09)),
    ("order.sampling.repetition_penalty", sampled(repetition_penalty=10.1)),
    ("order.sampling.presence_penalty", sampled(presence_penalty=2.01)),
    ("order.sampling.presence_penalty", sampled(presence_penalty=-math.inf)),
    ("order.sampling.frequency_penalty", sampled(frequency_penalty=-2.01)),
    ("order.sampling.frequency_penalty", sampled(frequency_penalty=math.nan)),
    ("order.sampling.logit_bias", sampled(logit_bias=dict.fromkeys(range(301), 0))),
    ("order.sampling.logit_bias[7]", sampled(logit_bias={8: 101, 7: 100.1, 6: 0})),
    ("order.sampling.logit_bias[0]", sampled(logit_bias={0: math.nan})),
    ("order.sampling.top_logprobs", sampled(logprobs=True, top_logprobs=21)),
    ("order.sampling.top_logprobs", sampled(top_logprobs=1)),
]


class TestLimits:
    @pytest.mark.parametrize("edge", EDGES)
    def test_the_limits_themselves_are_accepted(self, edge):
        """Every value up to its limit is fine."""
        check_order(EDGES[edge])

    @pytest.mark.parametrize(("field", "order"), BEYOND)
    def test_one_beyond_is_refused_by_name(self, field, order):
        """Every value beyond its limit is refused, and the refusal says where it stands."""
        with pytest.raises(InvalidField) as caught:
            check_order(order)
        assert caught.value.facts["field"] == field
        assert len(caught.value.facts["value"]) <= 100

    def test_unknown_determinism(self):
        """A determinism that nobody has heard of is refused: it may mean more than EXACT."""
        with pytest.raises(InvalidField, match=r"order\.determinism"):
            check_order(Order(model="m", prompt="p", determinism=3))  # pyright: ignore[reportArgumentType]

    def test_the_caller_says_where_the_order_is(self):
        """Fields are named as they stand in the caller's own request."""
        with pytest.raises(InvalidField) as caught:
            check_order(Order(), at="params")
        assert caught.value.facts["field"] == "params.model"


class TestDefaults:
    def test_everything_is_stated(self):
        """After filling in, nothing about the sampling is left open, and nothing that was said is changed."""
        full = with_defaults(sampled(top_p=0.5, stop=["s"]), job=b"j" * 32)

        sampling = full.sampling
        assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0, 0.5, 0)
        assert (sampling.max_tokens, list(sampling.stop)) == (DEFAULT_MAX_TOKENS, ["s"])
        assert all(sampling.HasField(name) for name in ("temperature", "top_p", "top_k", "max_tokens", "seed"))
        check_order(full)

    def test_what_is_off_stays_unset(self):
        """Parameters that do nothing unless they are set are not filled in: orders without them keep their digests."""
        filled = with_defaults(sampled(), job=b"j" * 32).sampling

        assert {field.name for field, _ in filled.ListFields()} == {"temperature", "top_p", "top_k", "max_tokens", "seed"}

    def test_a_seed_follows_from_the_job(self):
        """Nobody chooses a seed that was not asked for: it is the job id's hash."""
        job = b"j" * 32
        expected = int.from_bytes(hashlib.sha256(b"seed" + job).digest()[:8], "big") // 2
        assert with_defaults(sampled(), job=job).sampling.seed == expected
        assert with_defaults(sampled(seed=0), job=job).sampling.seed == 0

    def test_again_changes_nothing(self):
        """Filling in twice is filling in once."""
        full = with_defaults(sampled(), job=b"j" * 32)
        assert with_defaults(full, job=b"k" * 32) == full

    def test_the_given_order_is_left_alone(self):
        """The caller's own message does not change under it."""
        order = sampled()
        with_defaults(order, job=b"j" * 32)
        assert order == sampled()


class TestCanonical:
    def test_the_bytes_never_change(self):
        """The canonical JSON of a full order, to the byte: keys sorted, no spaces, seeds as strings, characters as they are."""
        order = chat(("system", "Be brief."), ("user", 'Say "é\n😀".'))
        order.sampling.MergeFrom(Sampling(temperature=0.7, top_p=1, top_k=40, max_tokens=16, seed=SEED_MAX, stop=["\n", "é"]))

        assert canonical_order(order).decode() == (
            '{"messages":[{"content":"Be brief.","role":"system"},{"content":"Say \\"é\\n😀\\".","role":"user"}],"model":"m",'
            '"sampling":{"max_tokens":16,"seed":"9223372036854775807","stop":["\\n","é"],"temperature":0.7,"top_k":40,"top_p":1}}'
        )
        assert digest_order(order).hex() == hashlib.sha256(canonical_order(order)).hexdigest()

    def test_the_bytes_of_all_parameters(self):
        """Every parameter has its place in the canonical JSON; token ids are keys, so they are strings and sorted as such."""
        full = Sampling(
            min_p=0.05, typical_p=0.9, repetition_penalty=1.1, presence_penalty=-2, frequency_penalty=0.5,
            logit_bias={9: -100, 10: 0.5}, logprobs=True, top_logprobs=3,
        )  # fmt: skip

        assert canonical_sampling(full) == (
            '{"frequency_penalty":0.5,"logit_bias":{"10":0.5,"9":-100},"logprobs":true,"min_p":0.05,"presence_penalty":-2,'
            '"repetition_penalty":1.1,"top_logprobs":3,"typical_p":0.9}'
        )

    @pytest.mark.parametrize(
        ("constraint", "written"),
        [
            (Constraint(json_object=True), '{"json_object":true}'),
            (Constraint(json_schema='{"b": 1.0, "a": "é"}'), '{"json_schema":"{\\"b\\": 1.0, \\"a\\": \\"é\\"}"}'),
            (Constraint(regex="a+"), '{"regex":"a+"}'),
            (Constraint(choices=Choices(texts=["b", "a"])), '{"choices":["b","a"]}'),
            (Constraint(lark='start: "a"'), '{"lark":"start: \\"a\\""}'),
            (Constraint(gbnf='root ::= "a"'), '{"gbnf":"root ::= \\"a\\""}'),
        ],
        ids=str,
    )
    def test_the_bytes_of_a_constraint(self, constraint, written):
        """What form the answer must have is part of the request, as it was given."""
        order = Order(model="m", prompt="p", constraint=constraint)
        assert canonical_order(order).decode() == f'{{"constraint":{written},"model":"m","prompt":"p","sampling":{{}}}}'

    @pytest.mark.parametrize(("asked", "written"), [(DETERMINISM_EXACT, "exact"), (DETERMINISM_BEST_EFFORT, "best_effort")])
    def test_the_bytes_of_determinism(self, asked, written):
        """What is asked for is signed for."""
        order = Order(model="m", prompt="p", determinism=asked)

        assert f'{{"determinism":"{written}","model":"m",'.encode() in canonical_order(order)

    def test_only_what_is_set_appears(self):
        """A prompt alone is little JSON."""
        assert canonical_order(Order(model="m", prompt="p")) == b'{"model":"m","prompt":"p","sampling":{}}'
        assert canonical_sampling(Sampling(temperature=0)) == '{"temperature":0}'

    @given(st.text(), st.text())
    def test_different_orders_have_different_bytes(self, one, two):
        """Prompt and conversation, and any two texts, are told apart."""
        assert (canonical_order(Order(model="m", prompt=one)) == canonical_order(Order(model="m", prompt=two))) == (one == two)
        assert canonical_order(Order(model="m", prompt=one)) != canonical_order(chat(("user", one)))

    def test_tokens_are_four_bytes_each(self):
        """Token ids are written big-endian, so that no two lists are alike."""
        assert digest_tokens([1, 2]) == hashlib.sha256(bytes([0, 0, 0, 1, 0, 0, 0, 2])).digest()
        assert digest_tokens([]) == hashlib.sha256(b"").digest()


class TestCost:
    def test_tokens_at_their_price(self):
        """Prompt and completion have a price each, exact at any size."""
        price = Price(prompt_token=str(10**30), completion_token="3")
        assert cost(price, prompt_tokens=5, completion_tokens=7) == 5 * 10**30 + 21
