"""Jinja for a stranger's template: what it may compute and how large that may become is bounded, so that it always ends soon.

The sandbox of Jinja keeps a template from Python's objects, but not from looping for ever or from filling the memory. Here each
round of a loop, each call and each filter is counted against a budget, by what it makes; and whatever makes much out of little is
measured before it is done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import wraps
from threading import local
from typing import Any, Final

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

SOURCE_BYTES: Final = 256 << 10
"""Most bytes of a template."""
VALUE_CHARS: Final = 16 << 20
"""Most characters of any text that a template makes."""
MEMBER_CHARS: Final = 64
"""A member of a list or a mapping counts as so many characters."""
STEP_CHARS: Final = 64
"""A text costs one step for so many of its characters."""
CALL_STEPS: Final = 8
"""What a call costs: it takes so much longer than a round."""
STEP_SOURCE: Final = 4096
"""A round and a call cost one more step for so many bytes of the template, which they may print."""
INDENT: Final = 16
"""Widest indentation."""
DEPTH: Final = 50
"""Most calls within each other."""
NUMBER_BITS: Final = 1024
"""Largest number that is computed, in bits."""
WITHOUT: Final = ("batch", "center", "filesizeformat", "pprint", "random", "slice", "urlize", "wordwrap", "xmlattr")
"""Filters that no chat template needs, and that make much out of little."""
METHODS_WITHOUT: Final = frozenset({"center", "expandtabs", "ljust", "rjust", "zfill", "format_map", "translate"})
"""Methods of strings likewise."""
WIDE: Final = re.compile(r"\d{4}|\*|\{[^{}]*\{")
"""A format that asks for a width of thousands, or takes it from elsewhere."""
_EACH, _JOINED = " each", " joined"
"""Names of filters that no template can write."""


class TooMuch(TemplateError):
    """The template computes more than it may."""


class Bounded(ImmutableSandboxedEnvironment):
    """An environment whose templates render within a budget, or raise TooMuch. Render inside ``budget``."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(finalize=self._printed, optimized=False, **options)
        self._left = local()
        self._round = 1
        for name in WITHOUT:
            del self.filters[name]
        del self.globals["lipsum"]
        self.filters |= {_EACH: self._each, _JOINED: self._joined}

    @contextmanager
    def budget(self, steps: int) -> Generator[None]:
        """Let what this thread renders in the block take so many steps."""
        self._left.steps, self._left.depth = steps, 0
        try:
            yield
        except (RecursionError, MemoryError, OverflowError) as error:
            raise TooMuch("the template is nested too deeply, or makes too much") from error
        finally:
            del self._left.steps, self._left.depth

    def from_string(self, source: Any, *given: Any, **more: Any) -> Any:
        """Return the template. Raises TemplateError for one that is too long or malformed."""
        if len(source) > SOURCE_BYTES:
            raise TooMuch(f"the template has more than {SOURCE_BYTES} characters")
        self._round = 1 + len(source) // STEP_SOURCE
        self.filters = {name: one if name in (_EACH, _JOINED) else self._counted(name, one) for name, one in self.filters.items()}
        try:
            return super().from_string(source, *given, **more)
        except (RecursionError, MemoryError, OverflowError) as error:
            raise TooMuch("the template is nested too deeply") from error

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Call something, unless it would make too much."""
        # the sandbox wraps str.format
        method = getattr(obj, "__wrapped__", obj)
        text = getattr(method, "__self__", None)
        if isinstance(text, str):
            self._check_text(method.__name__, text, args, kwargs)
        depth = getattr(self._left, "depth", 0)
        if depth >= DEPTH:
            raise TooMuch(f"the template nests more than {DEPTH} calls")
        self._left.depth = depth + 1
        try:
            return self._spend(super().call(context, obj, *args, **kwargs), self._round + CALL_STEPS)
        finally:
            self._left.depth = depth

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute left operator right, unless that would be too much."""
        match operator:
            case "*":
                for much, times in ((left, right), (right, left)):
                    if isinstance(times, int) and isinstance(much, str | list | tuple):
                        _limit(len(much) * max(0, times) * (1 if isinstance(much, str) else MEMBER_CHARS))
                _limit_bits(left, right, lambda one, other: one + other)
            case "**":
                _limit_bits(left, right, lambda one, _: one * max(1, abs(right)))
            case "+":
                if hasattr(left, "__len__") and hasattr(right, "__len__"):
                    _limit((len(left) + len(right)) * (1 if isinstance(left, str) else MEMBER_CHARS))
            case _:
                if isinstance(left, str):
                    self._check_format(left, right if isinstance(right, tuple) else (right,), {})
        return self._spend(super().call_binop(context, operator, left, right), 1)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Say whether a template may have it."""
        return not (isinstance(obj, str) and attr in METHODS_WITHOUT) and super().is_safe_attribute(obj, attr, value)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return _Counting().visit(super()._parse(source, name, filename))

    def _spend(self, value: Any, steps: int) -> Any:
        if isinstance(value, str):
            _limit(len(value))
            steps += len(value) // STEP_CHARS
        elif isinstance(value, list | tuple | dict):
            steps += len(value)  # pyright: ignore[reportUnknownArgumentType]
        left = getattr(self._left, "steps", 0) - steps
        if left < 0:
            raise TooMuch("the template takes too many steps")
        self._left.steps = left
        return value

    def _each(self, values: Iterable[Any]) -> Generator[Any]:
        for value in values:
            self._spend(None, self._round)
            yield value

    def _joined(self, values: list[Any]) -> str:
        _limit(sum(map(_measure, values)))
        return self._spend("".join(map(str, values)), 1)

    def _printed(self, value: Any) -> Any:
        _measure(value)
        return self._spend(value if isinstance(value, str) else str(value), 1)

    def _counted(self, name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
        """Return the filter, counted and bounded."""
        skipped = 1 if hasattr(filter_, "jinja_pass_arg") else 0

        @wraps(filter_)
        def counted(*args: Any, **kwargs: Any) -> Any:
            value, *others = args[skipped:] or [None]
            match name:
                case "replace":
                    _check_replace(str(_known(value)), [str(one) for one in others[:2]])
                case "join":
                    value = list(value or ())
                    _limit(sum(map(_measure, value)) + len(value) * _measure((others or [kwargs.get("d", "")])[0]))
                    args = (*args[:skipped], value, *others)
                case "indent" | "tojson":
                    _known(value)
                    if any(isinstance(one, int) and one > INDENT for one in (*others, *kwargs.values())):
                        raise TooMuch(f"indents by more than {INDENT}")
                case "format":
                    self._check_format(str(value), others, kwargs)
                case "sum":
                    if not all(isinstance(one, int | float | str | None) for one in (*others, *kwargs.values())):
                        raise TooMuch("adds up what are no numbers")
                case _:
                    if isinstance(value, list | tuple | dict) and name in ("string", "escape", "e", "forceescape", "trim"):
                        _measure(value)
            return self._spend(filter_(*args, **kwargs), 1)

        return counted

    def _check_text(self, name: str, text: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if name == "format":
            self._check_format(text, args, kwargs)
        elif name == "replace" and len(args) > 1:
            _check_replace(text, [str(one) for one in args[:2]])
        elif name == "join" and args:
            if not isinstance(args[0], list | tuple | str | dict):
                raise SecurityError("joins what cannot be measured")
            _limit(_measure(args[0]) + len(text) * len(args[0]))  # pyright: ignore[reportUnknownArgumentType]

    def _check_format(self, form: str, args: Iterable[Any], kwargs: Mapping[str, Any]) -> None:
        if WIDE.search(form):
            raise TooMuch("formats a text too wide")
        values = [*args, *kwargs.values()]
        _limit(len(form) * max(map(_measure, values), default=0))


class _Counting(NodeTransformer):
    """Puts our counting around what the sandbox does not see."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, _EACH, [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        values = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(values, _JOINED, [], [], None, None, lineno=node.lineno)


def _limit(size: int) -> None:
    if size > VALUE_CHARS:
        raise TooMuch(f"makes a text of more than {VALUE_CHARS} characters")


def _limit_bits(left: Any, right: Any, bits: Callable[[int, int], int]) -> None:
    if isinstance(left, int) and isinstance(right, int) and bits(left.bit_length(), right.bit_length()) > NUMBER_BITS:
        raise TooMuch(f"computes a number of more than {NUMBER_BITS} bits")


def _check_replace(text: str, change: list[str]) -> None:
    if len(change) == 2:  # noqa: PLR2004  # what, and by what
        _limit(len(text) + text.count(change[0]) * len(change[1]))


def _known(value: Any) -> Any:
    _measure(value)
    return value


def _measure(value: Any) -> int:
    """Return about how many characters the value prints as. What is in it many times counts as often. Raises TooMuch."""
    size, open_ = 0, [value]
    while open_:
        one = open_.pop()
        match one:
            case str():
                size += len(one)
            case dict():
                size += MEMBER_CHARS * len(one)  # pyright: ignore[reportUnknownArgumentType]
                open_ += [*one.keys(), *one.values()]  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
            case list() | tuple():
                size += MEMBER_CHARS * len(one)  # pyright: ignore[reportUnknownArgumentType]
                open_ += one
            case int():
                size += one.bit_length() // 3
            case _:
                pass
        size += 1
        _limit(size + MEMBER_CHARS * len(open_))
    return size
