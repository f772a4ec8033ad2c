"""A conversation put into the model's own template, so that no message can pass for the template's control tokens. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Never

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from aos.errors import InvalidField, ModelUnsuitable
from aos.v1.types_pb2 import ChatMessage

FIELD: Final = "order.chat.messages"


class _Refused(Exception):
    """The template called raise_exception."""


class ChatTemplate:
    """A Jinja template as GGUF files carry it. Raises jinja2.TemplateError if it is none."""

    def __init__(self, model: str, source: str, *, bos: str, eos: str, controls: Iterable[str]) -> None:
        """``controls``: the texts of the tokens that messages must not be able to make."""
        # as the templates' authors have it (transformers' apply_chat_template): blocks leave no lines behind
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
        self._model, self._template = model, environment.from_string(source, globals={"raise_exception": _refuse})
        self._tokens = {"bos_token": bos, "eos_token": eos}
        # longest first: of two that begin alike the tokeniser takes the longer
        texts = sorted(filter(None, controls), key=lambda text: (-len(text), text))
        self._controls = re.compile("|".join(map(re.escape, texts))) if texts else None

    def render(self, messages: Sequence[ChatMessage]) -> list[tuple[str, bool]]:
        """Return the conversation, up to where the answer begins, in parts: the text, and whether control tokens in it count.

        They count everywhere but where a message contains the text of one; that text is a part of its own. Raises InvalidField
        for a conversation that the template refuses, ModelUnsuitable for a template that fails.
        """
        opening, closing = _marks(messages)
        turns = [{"role": one.role, "content": self._mark(one.content, opening, closing)} for one in messages]
        try:
            text = self._template.render(messages=turns, add_generation_prompt=True, **self._tokens)
        except _Refused as error:
            raise InvalidField(FIELD, f"the model's chat template refuses them: {error}") from error
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise ModelUnsuitable(self._model, "chat template that works for these messages") from error
        return list(_parts(text, opening, closing))

    def _mark(self, content: str, opening: str, closing: str) -> str:
        if self._controls is None:
            return content
        return self._controls.sub(lambda match: f"{opening}{match[0]}{closing}", content)


def _refuse(message: str) -> Never:
    raise _Refused(message)


def _marks(messages: Sequence[ChatMessage]) -> tuple[str, str]:
    """Return two strings that no message contains."""
    number = 0
    while any(f"\ue000{number}\ue001" in one.content or f"\ue002{number}\ue001" in one.content for one in messages):
        number += 1
    return f"\ue000{number}\ue001", f"\ue002{number}\ue001"


def _parts(text: str, opening: str, closing: str) -> Iterator[tuple[str, bool]]:
    counts = True
    for part in re.split(f"({opening}|{closing})", text):
        if part in (opening, closing):
            counts = part == closing
        elif part:
            yield part, counts
