"""What an order may be: its limits, its defaults, and the canonical bytes that digests are made of. Pure."""

from __future__ import annotations

import hashlib
import struct
from typing import Any, Final

from aos.canonical import EXACT, canonical
from aos.control_order import canonical_control, check_control
from aos.conversation import SCHEMA_DEPTH, canonical_chat, check_beside, check_chat, text_bytes
from aos.errors import InvalidField
from aos.nesting import too_deep
from aos.picture_order import canonical_picture, check_picture, set_defaults
from aos.v1.types_pb2 import Constraint, Determinism, Order, Price, Sampling, ToolChoice

PROMPT_BYTES: Final = 1 << 20
"""Most bytes of text in one order, over all its messages and tools."""
MODEL_NAME: Final = 128
"""Most characters of a model's name."""
STOPS: Final = 16
STOP_BYTES: Final = 256
MAX_TEMPERATURE: Final = 2.0
MAX_TOKENS: Final = 1 << 20
DEFAULT_MAX_TOKENS: Final = 512
SEED_MAX: Final = (1 << 63) - 1
MIN_REPETITION_PENALTY: Final = 0.1
MAX_REPETITION_PENALTY: Final = 10.0
MAX_PENALTY: Final = 2.0
"""Largest presence or frequency penalty, of either sign."""
BIASED_TOKENS: Final = 300
"""Most entries of a logit_bias."""
MAX_BIAS: Final = 100.0
"""Largest bias of a token, of either sign."""
MAX_TAU: Final = 20.0
"""Largest target of mirostat, in bits."""
DEFAULT_TAU: Final = 5.0
DEFAULT_ETA: Final = 0.1
TEXTS: Final = 256
"""Most texts in one order for embeddings."""
EMBEDDING_VALUES: Final = 1 << 20
"""Most numbers in all vectors of one order: 4 MiB, half of what a message may have."""
CONSTRAINT_BYTES: Final = 64 << 10
"""Largest constraint, as it is on the wire."""
CHOICES: Final = 1024
"""Most texts to choose from."""
TOP_LOGPROBS: Final = 20
"""Most log-probabilities that are reported beside each token's own."""
LEAST_LOGPROB: Final = -9999.0
"""Stands for every smaller log-probability, that of a token that cannot come included: JSON has no infinities."""

RANGES: Final = (
    ("temperature", 0.0, MAX_TEMPERATURE),
    ("min_p", 0.0, 1.0),
    ("repetition_penalty", MIN_REPETITION_PENALTY, MAX_REPETITION_PENALTY),
    ("presence_penalty", -MAX_PENALTY, MAX_PENALTY),
    ("frequency_penalty", -MAX_PENALTY, MAX_PENALTY),
)
"""Parameters, their least and their greatest value."""
SHARES: Final = ("top_p", "typical_p")
"""Parameters that are a part of the whole: above 0, at most 1."""
NUMBERS: Final = (*(name for name, _, _ in RANGES), *SHARES, "top_k", "max_tokens")
"""Parameters that canonical JSON has as numbers."""


def check_order(order: Order, at: str = "order") -> None:
    """Raise InvalidField for the first field that cannot be accepted; ``at`` is where the order is in the caller's request."""
    if not order.model or len(order.model) > MODEL_NAME:
        raise InvalidField(f"{at}.model", f"must have 1 to {MODEL_NAME} characters", value=order.model, limit=MODEL_NAME)
    match order.WhichOneof("input"):
        case "prompt":
            if not order.prompt and not order.HasField("control"):
                raise InvalidField(f"{at}.prompt", "must not be empty")
            _check_size(f"{at}.prompt", len(order.prompt.encode()))
        case "chat":
            _check_size(f"{at}.chat.messages", text_bytes(order.chat))
            check_chat(order.chat, f"{at}.chat")
        case "embedding":
            _check_embedding(order, at)
        case "picture":
            check_picture(order, at)
        case _:
            raise InvalidField(f"{at}.prompt", "a prompt, a chat, texts to embed or a picture's prompt are needed")
    check_sampling(order.sampling, f"{at}.sampling")
    check_control(order, at)
    if order.determinism not in Determinism.values():
        raise InvalidField(f"{at}.determinism", "must be EXACT, BEST_EFFORT or left out", value=order.determinism)
    if order.HasField("constraint"):
        _check_constraint(order.constraint, f"{at}.constraint")
        if order.chat.tool_choice == ToolChoice.TOOL_CHOICE_REQUIRED:
            raise InvalidField(f"{at}.constraint", "contradicts tools that the model has to call; choose one")
        check_beside(order.chat, order.constraint, f"{at}.constraint")


def _check_constraint(constraint: Constraint, at: str) -> None:
    kind = constraint.WhichOneof("kind")
    if kind is None:
        raise InvalidField(at, "must say what form the answer has")
    if kind == "json_object" and not constraint.json_object:
        raise InvalidField(f"{at}.json_object", "must be true, or left out", value=False)
    if kind == "choices" and not 1 <= len(constraint.choices.texts) <= CHOICES:
        count = len(constraint.choices.texts)
        raise InvalidField(f"{at}.choices.texts", f"must have 1 to {CHOICES} texts", value=count, limit=CHOICES)
    size = constraint.ByteSize()
    if size > CONSTRAINT_BYTES:
        problem = f"has {size} bytes; at most {CONSTRAINT_BYTES} are accepted"
        raise InvalidField(f"{at}.{kind}", problem, value=size, limit=CONSTRAINT_BYTES)
    if kind == "json_schema" and too_deep(constraint.json_schema, SCHEMA_DEPTH):
        problem = f"is nested more than {SCHEMA_DEPTH} levels deep"
        raise InvalidField(f"{at}.json_schema", problem, limit=SCHEMA_DEPTH)


def _constraint(constraint: Constraint) -> dict[str, Any]:
    kind = str(constraint.WhichOneof("kind"))
    return {kind: list(constraint.choices.texts) if kind == "choices" else getattr(constraint, kind)}


def _check_size(at: str, size: int) -> None:
    if size > PROMPT_BYTES:
        raise InvalidField(at, f"has {size} bytes; at most {PROMPT_BYTES} are accepted", value=size, limit=PROMPT_BYTES)


def check_sampling(sampling: Sampling, at: str) -> None:
    """Raise InvalidField for the first parameter out of range. NaN is out of every range."""
    for name, low, high in RANGES:
        value = getattr(sampling, name)
        if sampling.HasField(name) and not low <= value <= high:
            raise InvalidField(f"{at}.{name}", f"must be from {low:g} to {high:g}", value=value, limit=high)
    for name in SHARES:
        value = getattr(sampling, name)
        if sampling.HasField(name) and not 0 < value <= 1:
            raise InvalidField(f"{at}.{name}", "must be above 0 and at most 1", value=value, limit=1)
    if sampling.HasField("max_tokens") and not 1 <= sampling.max_tokens <= MAX_TOKENS:
        raise InvalidField(f"{at}.max_tokens", f"must be from 1 to {MAX_TOKENS}", value=sampling.max_tokens, limit=MAX_TOKENS)
    if sampling.HasField("seed") and sampling.seed > SEED_MAX:
        raise InvalidField(f"{at}.seed", f"must be at most {SEED_MAX}", value=sampling.seed, limit=SEED_MAX)
    _check_stop(sampling, f"{at}.stop")
    _check_bias(sampling, f"{at}.logit_bias")
    _check_mirostat(sampling, at)
    most = TOP_LOGPROBS if sampling.logprobs else 0
    if sampling.top_logprobs > most:
        problem = f"must be at most {TOP_LOGPROBS}" if most else "is only for orders with logprobs"
        raise InvalidField(f"{at}.top_logprobs", problem, value=sampling.top_logprobs, limit=most)


def _check_stop(sampling: Sampling, at: str) -> None:
    if len(sampling.stop) > STOPS:
        raise InvalidField(at, f"must have at most {STOPS} strings", value=len(sampling.stop), limit=STOPS)
    for index, stop in enumerate(sampling.stop):
        if not 1 <= len(stop.encode()) <= STOP_BYTES:
            raise InvalidField(f"{at}[{index}]", f"must have 1 to {STOP_BYTES} bytes", value=stop, limit=STOP_BYTES)


def _check_bias(sampling: Sampling, at: str) -> None:
    count = len(sampling.logit_bias)
    if count > BIASED_TOKENS:
        raise InvalidField(at, f"must have at most {BIASED_TOKENS} entries", value=count, limit=BIASED_TOKENS)
    for token, bias in sorted(sampling.logit_bias.items()):
        if not -MAX_BIAS <= bias <= MAX_BIAS:
            raise InvalidField(f"{at}[{token}]", f"must be from {-MAX_BIAS:g} to {MAX_BIAS:g}", value=bias, limit=MAX_BIAS)


def _check_mirostat(sampling: Sampling, at: str) -> None:
    if not sampling.HasField("mirostat"):
        return
    mirostat, where = sampling.mirostat, f"{at}.mirostat"
    for name, value, most in (("tau", mirostat.tau, MAX_TAU), ("eta", mirostat.eta, 1.0)):
        if not 0 <= value <= most:
            raise InvalidField(f"{where}.{name}", f"must be from 0, for the default, to {most:g}", value=value, limit=most)
    if not sampling.temperature:
        raise InvalidField(where, "needs a temperature above 0: without one nothing is drawn", value=sampling.temperature)
    for name, nothing in (("top_k", 0), ("typical_p", 1), ("top_p", 1), ("min_p", 0)):
        if sampling.HasField(name) and getattr(sampling, name) != nothing:
            raise InvalidField(f"{at}.{name}", "mirostat is in its place; choose one", value=getattr(sampling, name), limit=nothing)


def draws(order: Order) -> bool:
    """Say whether the order's answer is drawn, token by token: a text."""
    return order.WhichOneof("input") not in {"embedding", "picture"}


def _check_embedding(order: Order, at: str) -> None:
    texts = order.embedding.texts
    if not 1 <= len(texts) <= TEXTS:
        raise InvalidField(f"{at}.embedding.texts", f"must have 1 to {TEXTS} texts", value=len(texts), limit=TEXTS)
    for index, text in enumerate(texts):
        if not text:
            raise InvalidField(f"{at}.embedding.texts[{index}]", "must not be empty")
    _check_size(f"{at}.embedding.texts", sum(len(text.encode()) for text in texts))
    if order.sampling.ByteSize():
        raise InvalidField(f"{at}.sampling", "is not for embeddings: nothing is drawn")
    if order.HasField("constraint"):
        raise InvalidField(f"{at}.constraint", "is not for embeddings: nothing is drawn")


def with_defaults(order: Order, *, job: bytes) -> Order:
    """Return the order with its main sampling parameters stated; a missing seed follows from the job's id.

    The other parameters do nothing where they are unset, and stay so: an order that does not use them keeps its digest.
    ``max_tokens`` is only a wish: the operator ends at the context's end, too; with a controller, by default only
    there.
    """
    full = Order()
    full.CopyFrom(order)
    if order.HasField("embedding"):  # nothing is drawn
        return full
    given, sampling = order.sampling, full.sampling
    sampling.seed = given.seed if given.HasField("seed") else int.from_bytes(hashlib.sha256(b"seed" + job).digest()[:8]) >> 1
    if order.HasField("picture"):
        set_defaults(full.picture)
        return full
    sampling.temperature = given.temperature if given.HasField("temperature") else 0.0
    sampling.top_p = given.top_p if given.HasField("top_p") else 1.0
    sampling.top_k = given.top_k if given.HasField("top_k") else 0
    most = MAX_TOKENS if order.HasField("control") else DEFAULT_MAX_TOKENS
    sampling.max_tokens = given.max_tokens if given.HasField("max_tokens") else most
    if given.HasField("mirostat"):
        sampling.mirostat.tau, sampling.mirostat.eta = given.mirostat.tau or DEFAULT_TAU, given.mirostat.eta or DEFAULT_ETA
    return full


def canonical_order(order: Order) -> bytes:
    """Return the order as RFC 8785 JSON: what ``request_digest`` is the SHA-256 of.

    Only what is set appears. Seeds are decimal strings, because JSON's numbers end at 2^53.
    """
    what: dict[str, Any] = {"model": order.model, "sampling": _sampling(order.sampling)}
    match order.WhichOneof("input"):
        case "prompt":
            what["prompt"] = order.prompt
        case "chat":
            what |= canonical_chat(order.chat)
        case "embedding":
            what["input"] = list(order.embedding.texts)
            if order.embedding.dimensions:
                what["dimensions"] = order.embedding.dimensions
        case "picture":
            what["picture"] = canonical_picture(order.picture)
        case _:
            pass
    if order.HasField("constraint"):
        what["constraint"] = _constraint(order.constraint)
    if order.HasField("control"):
        what["control"] = canonical_control(order.control)
    if order.determinism:
        what["determinism"] = Determinism.Name(order.determinism).removeprefix("DETERMINISM_").lower()
    return canonical(what)


def canonical_sampling(sampling: Sampling) -> str:
    """Return the parameters as RFC 8785 JSON: the receipt's ``parameters``."""
    return canonical(_sampling(sampling)).decode()


def _sampling(sampling: Sampling) -> dict[str, Any]:
    what: dict[str, Any] = {}
    for name in NUMBERS:
        if sampling.HasField(name):
            value = getattr(sampling, name)
            what[name] = int(value) if value == value // 1 and abs(value) < EXACT else value  # as it is spelt anyway
    if sampling.HasField("seed"):
        what["seed"] = str(sampling.seed)
    if sampling.stop:
        what["stop"] = list(sampling.stop)
    if sampling.logit_bias:
        what["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    if sampling.logprobs:
        what["logprobs"] = True
    if sampling.top_logprobs:
        what["top_logprobs"] = sampling.top_logprobs
    if sampling.HasField("mirostat"):
        given = {"tau": sampling.mirostat.tau, "eta": sampling.mirostat.eta}
        what["mirostat"] = {name: value for name, value in given.items() if value}
    return what


def digest_order(order: Order) -> bytes:
    """Return the 32-byte ``request_digest``."""
    return hashlib.sha256(canonical_order(order)).digest()


def digest_tokens(tokens: list[int]) -> bytes:
    """Return the SHA-256 of token ids, each 4 bytes big-endian."""
    return hashlib.sha256(struct.pack(f">{len(tokens)}I", *tokens)).digest()


def cost(price: Price, *, prompt_tokens: int, completion_tokens: int) -> int:
    """Return what so many tokens cost, in neurons."""
    return int(price.prompt_token) * prompt_tokens + int(price.completion_token) * completion_tokens
