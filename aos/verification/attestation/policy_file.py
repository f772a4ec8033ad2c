"""A policy as a file: JSON that says which programs are trusted, on which platforms. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, cast

from aos.errors import InvalidField
from aos.verification.attestation.evidence import Provider
from aos.verification.attestation.policy import AGE_SECONDS, UP_TO_DATE, Image, Policy

POLICY_BYTES: Final = 256 << 10
"""Largest file that is read: 256 images with all their measurements fit."""
_KEYS: Final = ("images", "tcb_statuses", "refused_advisories", "age_seconds")
_IMAGE: Final = ("name", "provider", "measurements")


def read_policy(text: str, *, production: bool = True) -> Policy:
    """Return the policy that the file's text says. Raises InvalidField, naming the key, for what cannot be.

    ``production`` is no part of the file: whether simulated evidence is refused follows from how the network runs.
    """
    if len(text) > POLICY_BYTES:
        raise InvalidField("policy", f"has {len(text)} bytes; at most {POLICY_BYTES} are read", limit=POLICY_BYTES)
    try:
        said: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidField("policy", f"must be JSON: {error}") from error
    fields = _members(said, "policy", _KEYS)
    age = fields.get("age_seconds", AGE_SECONDS)
    if type(age) is not int:
        raise InvalidField("age_seconds", "must be a whole number of seconds", value=age)
    images = fields.get("images", [])
    if not isinstance(images, list):
        raise InvalidField("images", "must be a list", value=images)
    return Policy(
        images=tuple(_image(one, f"images[{index}]") for index, one in enumerate(cast("list[Any]", images))),
        tcb_statuses=_words(fields.get("tcb_statuses", [UP_TO_DATE]), "tcb_statuses"),
        refused_advisories=_words(fields.get("refused_advisories", []), "refused_advisories"),
        age_seconds=age,
        production=production,
    )


def _image(said: object, at: str) -> Image:
    fields = _members(said, at, _IMAGE)
    name, provider = fields.get("name"), fields.get("provider")
    if not isinstance(name, str) or not name:
        raise InvalidField(f"{at}.name", "must be a text that is not empty", value=name)
    if provider not in tuple(Provider):
        raise InvalidField(f"{at}.provider", f"must be of {', '.join(Provider)}", value=provider)
    measurements = fields.get("measurements")
    values = cast("dict[str, Any]", measurements).values() if isinstance(measurements, dict) else [None]
    if not all(isinstance(value, str) for value in values):
        raise InvalidField(f"{at}.measurements", "must be an object of hex digits by register", value=measurements)
    return Image(name, Provider(provider), cast("dict[str, str]", measurements))


def _words(said: object, at: str) -> frozenset[str]:
    if not isinstance(said, list) or not all(isinstance(word, str) for word in cast("list[Any]", said)):
        raise InvalidField(at, "must be a list of texts", value=said)
    return frozenset(cast("list[str]", said))


def _members(said: object, at: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(said, dict):
        raise InvalidField(at, "must be an object", value=said)
    fields = cast("dict[str, Any]", said)
    if unknown := sorted(fields.keys() - set(known)):
        raise InvalidField(at, f"has an unknown key; there are {', '.join(known)}", value=unknown[0])
    return fields
