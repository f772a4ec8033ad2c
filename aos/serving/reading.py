"""Settings from a TOML file, the environment and flags, in that order: the dataclass says what there is. Pure.

A setting's name is its path through nested dataclasses: `limits.queue_jobs` is the key `queue_jobs` of the table
`[dispatcher.limits]`, the variable `AOS_DISPATCHER_LIMITS_QUEUE_JOBS` and the flag `--limits-queue-jobs`.
"""

from __future__ import annotations

import enum
import math
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar, Union, cast, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from aos.addresses import Network, read_networks
from aos.verification.attestation.policy import Policy

SHARED: Final = "shared"
"""The table, and the part of variables' names, with what several services have in common."""
ITEMS: Final = 256
"""Most entries of a setting that is a list."""
TEXT: Final = 4096
"""Longest text of a setting, in characters."""
SECRET: Final = {"secret": True}
"""Marks a field that no flag sets and nobody is shown."""
SECRET_URL: Final = {"secret_url": True}
"""Marks a URL that no flag sets if it has a password in it."""
NAMES: Final[dict[Any, str]] = {bool: "true or false", int: "an integer", float: "a number"}
WORDS: Final = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}

T = TypeVar("T")


class SettingError(ValueError):
    """A setting that cannot be: the message names where it was given, its name, the value unless it is secret, and the limit."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that can be set."""

    name: str
    """Its path: names with dots between them."""
    kind: Any
    default: Any
    """MISSING: it must be given."""
    secret: bool = False
    secret_url: bool = False

    @property
    def flag(self) -> str:
        """The option that sets it; empty for a secret: every user of the machine can read a command line."""
        return "" if self.secret else "--" + self.name.replace(".", "-").replace("_", "-")

    def variable(self, service: str) -> str:
        """Return the environment variable that sets it."""
        return f"AOS_{service}_{self.name.replace('.', '_')}".upper()


Scopes = Mapping[str, Mapping[str, Setting]]
"""What may be set under which name, weakest first: what services share, then the service's own."""
Given = tuple[str, tuple[Any, str]]
"""A setting's name, its value, and where it was given."""


@cache
def settings_of(kind: type) -> tuple[Setting, ...]:
    """Return all that can be set about a dataclass and those within it, in their order."""
    return tuple(_walk(kind, ""))


def _walk(kind: type, under: str) -> Iterator[Setting]:
    hints = get_type_hints(kind)
    for one in fields(kind):
        name, hint = f"{under}{one.name}", hints[one.name]
        if hint is Policy:  # a file of its own says it
            continue
        if is_dataclass(hint):
            yield from _walk(cast("type", hint), f"{name}.")
        else:
            yield Setting(name, hint, _default(one), SECRET.items() <= one.metadata.items(), "secret_url" in one.metadata)


def _default(one: Field[Any]) -> Any:
    return one.default_factory() if one.default_factory is not MISSING else one.default


def read_settings(
    kind: type[T],
    service: str,
    *,
    file: Mapping[str, Any],
    path: str,
    environment: Mapping[str, str],
    flags: Mapping[str, str],
    others: Collection[type] = (),
) -> T:
    """Return the settings of ``service`` as flags, else the environment, else the file say them; the rest as their defaults.

    ``file`` is what TOML made of the file at ``path``, ``flags`` are texts by settings' names. Tables and variables of the services
    with the settings ``others`` may be there, too; what they share is under `shared`. Raises SettingError.
    """
    known = {one.name: one for one in settings_of(kind)}
    scopes: Scopes = {SHARED: {one.name: one for each in (*others, kind) for one in settings_of(each)}, service: known}
    given = dict(_in_file(file, path, scopes)) | dict(_in_environment(environment, scopes)) | dict(_in_flags(flags, service, known))
    given = {name: found for name, found in given.items() if name in known}
    for name, one in known.items():
        if one.default is MISSING and name not in given:
            ways = f"{one.variable(service)}, {one.flag or 'no flag'}, or {name} in [{service}] of a file"
            raise SettingError(f"{name}: is needed; give it as {ways}")
    return cast("T", _made(kind, "", given))


def _in_file(file: Mapping[str, Any], path: str, scopes: Scopes) -> Iterator[Given]:
    for table, allowed in scopes.items():
        for name, value in _flat(file.get(table, {})):
            where = f"{path}: [{table}] {name}"
            if name not in allowed:
                raise SettingError(f"{where}: there is no such setting")
            yield name, (_of_toml(allowed[name], value, where), where)


def _in_environment(environment: Mapping[str, str], scopes: Scopes) -> Iterator[Given]:
    for scope, allowed in scopes.items():
        variables = {one.variable(scope): one for one in allowed.values()}
        for variable in environment:
            if not variable.startswith(f"AOS_{scope.upper()}_"):
                continue
            if variable not in variables:
                raise SettingError(f"{variable}: there is no such setting")
            one = variables[variable]
            yield one.name, (_of_text(one, environment[variable], variable), variable)


def _in_flags(flags: Mapping[str, str], service: str, known: Mapping[str, Setting]) -> Iterator[Given]:
    for name, text in flags.items():
        one = known[name]
        if one.secret_url and urlsplit(text).password:
            variable = one.variable(service)
            raise SettingError(f"{one.flag}: has a password in it, which others could read; give it as {variable} or in a file")
        yield name, (_of_text(one, text, one.flag), one.flag)


def check_tables(file: Mapping[str, Any], path: str, services: Collection[str]) -> None:
    """Raise SettingError for a table that is no service's."""
    for table, inside in file.items():
        if table not in (SHARED, *services):
            raise SettingError(f"{path}: {table}: there is no such table; there are {', '.join((SHARED, *services))}")
        if not isinstance(inside, Mapping):
            raise SettingError(f"{path}: {table}: must be a table, [{table}]")


def _flat(table: Mapping[str, Any], under: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(cast("Mapping[str, Any]", value), f"{under}{key}.")
        else:
            yield f"{under}{key}", value


def _made(kind: type, under: str, given: Mapping[str, tuple[Any, str]]) -> Any:
    hints, values = get_type_hints(kind), {}
    for one in fields(kind):
        hint: Any = hints[one.name]
        if hint is not Policy and is_dataclass(hint):
            values[one.name] = _made(cast("type", hint), f"{under}{one.name}.", given)
        elif f"{under}{one.name}" in given:
            values[one.name] = given[f"{under}{one.name}"][0]
    try:
        return kind(**values)
    except SettingError:
        raise
    except ValueError as error:
        words = str(error).replace(":", " ").split()
        sources = [where for name, (_, where) in given.items() if name.removeprefix(under) in words]
        raise SettingError(f"{', '.join(sources) or under.rstrip('.') or 'settings'}: {error}") from None


def _of_toml(one: Setting, value: Any, where: str) -> Any:
    kind = _kind(one.kind)
    if _is_list(kind):
        if not isinstance(value, list):
            raise _wrong(one, where, value, "an array of strings")
        return _items(one, kind, [str(item) for item in cast("list[Any]", value)], where)
    if kind is int and isinstance(value, float) and value.is_integer():  # as Helm writes every number
        value = int(value)
    exact: tuple[type, ...] = {bool: (bool,), int: (int,), float: (int, float)}.get(kind, (str,))
    if not isinstance(value, exact) or (isinstance(value, bool) and kind is not bool):
        raise _wrong(one, where, value, NAMES.get(kind, "a string"))
    if isinstance(value, str):
        return _of_text(one, value, where)
    return float(value) if kind is float else value


def _of_text(one: Setting, text: str, where: str) -> Any:
    kind: Any = _kind(one.kind)
    if len(text) > TEXT:
        raise SettingError(f"{where}: must have at most {TEXT} characters, not {len(text)}")
    if _is_list(kind):
        return _items(one, kind, [part.strip() for part in text.split(",") if part.strip()], where)
    try:
        if kind is bool:
            return WORDS[text.lower()]
        if kind is float and not math.isfinite(float(text)):
            raise _wrong(one, where, text, "a finite number")
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return kind[text.upper()]
        return None if kind is Path and not text else kind(text)
    except (KeyError, ValueError) as error:
        if isinstance(error, SettingError):
            raise
        allowed = [each.name.lower() for each in kind] if isinstance(kind, type) and issubclass(kind, enum.Enum) else []
        raise _wrong(one, where, text, NAMES.get(kind, f"one of {', '.join(allowed)}")) from None


def _items(one: Setting, kind: Any, texts: Sequence[str], where: str) -> Any:
    if len(texts) > ITEMS:
        raise SettingError(f"{where}: must have at most {ITEMS} entries, not {len(texts)}")
    inner = get_args(kind)[0]
    if inner is Network or get_origin(inner) in (Union, types.UnionType):
        try:
            return read_networks(texts, one.name)
        except ValueError as error:
            raise SettingError(f"{where}: {error}") from None
    try:
        return tuple(inner(text) for text in texts)
    except ValueError:
        raise _wrong(one, where, ",".join(texts), f"{inner.__name__}s with commas between them") from None


def _kind(kind: Any) -> Any:
    """Return the type without `| None`, which only says what the default is."""
    inner = [each for each in get_args(kind) if each is not types.NoneType] if get_origin(kind) is types.UnionType else []
    return inner[0] if len(inner) == 1 else kind


def _is_list(kind: Any) -> bool:
    return isinstance(get_origin(kind), type) and issubclass(get_origin(kind), Collection)


def _wrong(one: Setting, where: str, value: object, wanted: str) -> SettingError:
    return SettingError(f"{where}: must be {wanted}" + ("" if one.secret or one.secret_url else f", not {value!r}"))
