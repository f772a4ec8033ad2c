"""One request on its way: read, drawn token by token, and ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from aos.errors import ContextOverflow, InvalidField
from aos.operator.constraints import Form, Work
from aos.operator.logprobs import Likelihood, reported
from aos.operator.model import Model
from aos.operator.penalties import History
from aos.operator.sampling import Draw, Logits, draw, follow
from aos.operator.steps import Steps
from aos.operator.stream import End
from aos.operator.text import AnswerText
from aos.operator.timings import Timings
from aos.operator.waiting import Terms
from aos.order import DEFAULT_MAX_TOKENS
from aos.v1.types_pb2 import FinishReason, Order
from aos.verification.trace import MOST_TOKENS


@dataclass(frozen=True, slots=True)
class Drawn:
    """What one more token made of an answer."""

    token: int
    text: str = ""
    """What became certain."""
    tokens: Sequence[int] = ()
    """The token, if it is a part of the answer and was drawn here."""
    logprobs: Sequence[Likelihood] = ()
    reason: FinishReason | None = None
    """Why the answer ends, if it does."""
    forming: Work | None = None
    """What finds out which tokens may come next, if the answer must have a form; for ``Grammars.ahead``."""


@dataclass(slots=True)
class Answer:
    """Made beside the loop, then the engine thread's alone."""

    prompt: list[int]
    tokens: list[int]
    text: AnswerText
    how: Draw
    history: History
    limit: int
    lacking: str
    """Text that an earlier operator's reader lacks."""
    terms: Terms
    due: float
    """When it must be done, by the engine's clock."""
    timings: Timings
    steps: Steps
    cached: int = 0
    followed: int = 0
    """How many of ``tokens`` the model has given logits for: those drawn elsewhere are computed as if drawn here, because the
    receipt speaks of each step, and this operator's signs for its own logits only."""
    form: Form | None = None
    """What it must look like, if anything."""

    @classmethod
    def of(
        cls,
        order: Order,
        model: Model,
        *,
        accepted: list[int],
        sent_bytes: int | None,
        terms: Terms,
        due: float,
        now: float,
        form: Form | None,
        steps: Steps,
    ) -> Self:
        """Read the order, which takes long if the input is long. Arguments and errors are Engine.generate's.

        ``form`` is that of an answer that begins here; ``steps`` takes what its receipt speaks of.
        """
        sampling, tokens = order.sampling, accepted
        prompt = model.tokenise(order)
        if not prompt or order.HasField("embedding"):
            raise InvalidField("order.prompt", "has no tokens")
        if len(prompt) >= model.context or len(prompt) + len(tokens) > model.context:
            raise ContextOverflow(order.model, len(prompt) + len(tokens), model.context)
        if any(token >= model.vocabulary or token in model.ends for token in tokens):
            raise InvalidField("accepted_tokens", "these are no tokens that this model's answers can have")
        text = AnswerText(sampling.stop)
        lacking = text.resume((model.piece(token) for token in tokens), sent_bytes)
        limit = min(sampling.max_tokens or DEFAULT_MAX_TOKENS, model.context - len(prompt), MOST_TOKENS)
        if len(tokens) > MOST_TOKENS:
            raise InvalidField("accepted_tokens", f"must be at most {MOST_TOKENS}", value=len(tokens), limit=MOST_TOKENS)
        how, history = Draw.of(sampling, model.vocabulary), History(prompt, [])
        return cls(prompt, tokens, text, how, history, limit, lacking, terms, due, Timings(now), steps, form=form)

    @property
    def ended(self) -> FinishReason | None:
        """Why nothing more is to be drawn, if so."""
        if self.text.stop:
            return FinishReason.FINISH_REASON_STOP
        return FinishReason.FINISH_REASON_LENGTH if len(self.tokens) >= self.limit else None

    def draw(self, logits: Logits, model: Model, now: float) -> Drawn:
        """Take the next token, with the logits behind the last.

        Raises ValueError for broken logits, and what the form raises if it allows no token.
        """
        left = logits if self.form is None else self.form.permitted(logits)
        if self.followed < len(self.tokens):
            token = self.tokens[self.followed]
            follow(left, self.how, self.history, token)
            self.steps.saw(token, logits)
            if self.followed + 1 == len(self.tokens) and self.ended is not None:
                return Drawn(token, self.text.finish(), reason=self.ended)
            return Drawn(token, forming=self._goes_on(token))
        token = draw(left, self.how, len(self.tokens), self.history)
        self.steps.saw(token, logits)
        self.timings.drew(now)
        if token in model.ends:
            return Drawn(token, self.text.finish(), reason=FinishReason.FINISH_REASON_STOP)
        text, logprobs = self.text.feed(model.piece(token)), reported(logits, token, self.how)
        self.tokens.append(token)
        if self.ended is not None:
            return Drawn(token, text + self.text.finish(), [token], logprobs, self.ended)
        return Drawn(token, text, [token], logprobs, forming=self._goes_on(token))

    def end(self, reason: FinishReason) -> End:
        """Return how it ended."""
        text = self.text
        return End(reason, text.stop, self.prompt, self.tokens, text.text, self.cached, timings=self.timings, steps=self.steps)

    def _goes_on(self, token: int) -> Work | None:
        self.history.add(token)
        self.followed += 1
        return None if self.form is None else self.form.drew(token)
