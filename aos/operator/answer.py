"""One request on its way: read, drawn token by token, and ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from aos.errors import ContextOverflow, InvalidField
from aos.operator.constraints import Form
from aos.operator.logprobs import reported
from aos.operator.model import Model
from aos.operator.penalties import History
from aos.operator.sampling import Draw, Logits, draw, follow
from aos.operator.stream import End, Reported
from aos.operator.text import AnswerText
from aos.operator.timings import Timings
from aos.operator.waiting import Terms
from aos.order import DEFAULT_MAX_TOKENS
from aos.v1.types_pb2 import FinishReason, Order


@dataclass(frozen=True, slots=True)
class Drawn:
    """What became of an answer with one more token."""

    token: int
    text: str
    """What became certain."""
    tokens: list[int]
    """The token, unless it ended the answer."""
    logprobs: list[Reported]
    reason: FinishReason | None
    """Why the answer ends, if it does."""
    news: bool = True
    """Whether its reader is to hear of it; not if the token was drawn elsewhere."""


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
    cached: int = 0
    followed: int = 0
    """How many of ``tokens`` need no computing of their own: with mirostat, those drawn elsewhere are computed as if drawn here."""
    form: Form | None = None
    """What it must look like, if anything."""

    @classmethod
    def of(
        cls, order: Order, model: Model, *, accepted: Sequence[int], sent_bytes: int | None, terms: Terms, due: float, now: float
    ) -> Self:
        """Read the order, which takes long if the input is long. Arguments and errors are Engine.generate's."""
        sampling, tokens = order.sampling, list(accepted)
        prompt = model.tokenise(order)
        if not prompt or order.HasField("embedding"):
            raise InvalidField("order.prompt", "has no tokens")
        if len(prompt) >= model.context or len(prompt) + len(tokens) > model.context:
            raise ContextOverflow(order.model, len(prompt) + len(tokens), model.context)
        if any(token >= model.vocabulary or token in model.ends for token in tokens):
            raise InvalidField("accepted_tokens", "these are no tokens that this model's answers can have")
        text = AnswerText(sampling.stop)
        lacking = text.resume((model.piece(token) for token in tokens), sent_bytes)
        limit = min(sampling.max_tokens or DEFAULT_MAX_TOKENS, model.context - len(prompt))
        how = Draw.of(sampling, model.vocabulary)
        followed = 0 if how.mirostat else len(tokens)
        history = History(prompt, tokens[:followed])
        return cls(prompt, tokens, text, how, history, limit, lacking, terms, due, Timings(now), followed=followed)

    @property
    def known(self) -> list[int]:
        """What the sequence begins with."""
        return self.prompt + self.tokens[: self.followed]

    @property
    def ended(self) -> FinishReason | None:
        """Why nothing more is to be drawn, if so."""
        if self.text.stop:
            return FinishReason.FINISH_REASON_STOP
        return FinishReason.FINISH_REASON_LENGTH if len(self.tokens) >= self.limit else None

    def draw(self, logits: Logits, model: Model) -> Drawn:
        """Take the next token from the logits behind the last. Raises InvalidField or ValueError for a token that cannot be."""
        left = logits if self.form is None else self.form.permitted(logits)
        if self.followed < len(self.tokens):
            token = self.tokens[self.followed]
            follow(left, self.how, self.history, token)
            self._went_on(token)
            return Drawn(token, "", [], [], None, news=False)
        token = draw(left, self.how, len(self.tokens), self.history)
        if token in model.ends:
            return Drawn(token, self.text.finish(), [], [], FinishReason.FINISH_REASON_STOP)
        text, logprobs = self.text.feed(model.piece(token)), reported(logits, token, self.how)
        self.tokens.append(token)
        reason = self.ended
        if reason is not None:
            return Drawn(token, text + self.text.finish(), [token], logprobs, reason)
        self._went_on(token)
        return Drawn(token, text, [token], logprobs, None)

    def end(self, reason: FinishReason) -> End:
        """Return how it ended."""
        return End(reason, self.text.stop, self.prompt, self.tokens, self.text.text, self.cached, timings=self.timings)

    def _went_on(self, token: int) -> None:
        self.history.add(token)
        self.followed += 1
        if self.form is not None:  # what may follow is worked out while the model computes
            self.form.drew(token)
