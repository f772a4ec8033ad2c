"""Which evidence is taken: images, platforms, providers, ages. Everything else is refused, with the reason. Pure."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from coincurve import PublicKey
from eth_utils.crypto import keccak

from aos.errors import BadEvidence, InvalidField
from aos.verification.attestation.evidence import Attested, Facts, Provider
from aos.verification.attestation.statement import Statement

IMAGES_MAX: Final = 256
"""Most images of a policy."""
AGE_SECONDS: Final = 300
"""How old a document that has a time may be."""
AHEAD_SECONDS: Final = 60
"""How far a document's time may be ahead of ours."""
UP_TO_DATE: Final = "UpToDate"
TCB_STATUSES: Final = frozenset(
    {
        UP_TO_DATE,
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
        "TDRelaunchAdvised",
        "TDRelaunchAdvisedConfigurationNeeded",
    }
)
"""What a policy may allow of Intel's statuses; the one that is left, Revoked, is taken by none."""

_HEX: Final = re.compile(r"[0-9a-f]+")
_PCRS: Final = {f"PCR{index}": 48 for index in range(32)}
REGISTERS: Final[Mapping[Provider, Mapping[str, int]]] = {
    Provider.INTEL_TDX: dict.fromkeys(("MRTD", "RTMR0", "RTMR1", "RTMR2", "RTMR3", "MRCONFIGID", "MROWNER", "MROWNERCONFIG"), 48),
    Provider.INTEL_SGX: {"MRENCLAVE": 32, "MRSIGNER": 32, "ISVPRODID": 2, "ISVSVN": 2},
    Provider.AWS_NITRO: _PCRS,
    Provider.SIMULATED: _PCRS,
}
"""Bytes of each measurement."""
IDENTIFYING: Final[Mapping[Provider, tuple[frozenset[str], ...]]] = {
    # MRTD is the firmware alone; kernel and command line are measured into RTMR1 and RTMR2
    Provider.INTEL_TDX: (frozenset({"MRTD", "RTMR1", "RTMR2"}),),
    # a signer's key signs many programs: its product has to be named, too
    Provider.INTEL_SGX: (frozenset({"MRENCLAVE"}), frozenset({"MRSIGNER", "ISVPRODID"})),
    Provider.AWS_NITRO: (frozenset({"PCR0"}),),
    Provider.SIMULATED: (frozenset({"PCR0"}),),
}
"""Sets of measurements, one of which an image must name: with fewer, other programs would pass for it."""


@dataclass(frozen=True, slots=True)
class Image:
    """A program that is trusted to say what it says. Evidence is of it if every measurement that it names is equal."""

    name: str
    provider: Provider
    measurements: Mapping[str, str]
    """By register, lower-case hex."""

    def __post_init__(self) -> None:
        """Raise InvalidField for measurements that are none, or too few to tell programs apart."""
        at = f"image {self.name!r}"
        registers = REGISTERS[self.provider]
        for register, value in self.measurements.items():
            if register not in registers:
                raise InvalidField(at, f"{self.provider} has no {register}; it has {', '.join(registers)}", value=register)
            if not _HEX.fullmatch(value) or len(value) != 2 * registers[register]:
                raise InvalidField(at, f"{register} must be {2 * registers[register]} lower-case hex digits", value=value)
        if not any(needed <= self.measurements.keys() for needed in IDENTIFYING[self.provider]):
            choice = ", or ".join(" with ".join(sorted(needed)) for needed in IDENTIFYING[self.provider])
            raise InvalidField(at, f"other programs would pass for it: name {choice}", value=", ".join(self.measurements))

    def matches(self, facts: Facts) -> bool:
        """Tell whether this is what runs."""
        return facts.provider is self.provider and self.measurements.items() <= facts.measurements.items()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a dispatcher takes. Without images it takes nothing."""

    images: tuple[Image, ...] = ()
    tcb_statuses: frozenset[str] = frozenset({UP_TO_DATE})
    """Intel's statuses that are good enough."""
    refused_advisories: frozenset[str] = frozenset()
    """Intel's advisories, `INTEL-SA-00615` say, that no platform may have open, whatever its status."""
    age_seconds: int = AGE_SECONDS
    production: bool = True
    """Whether simulated evidence is refused."""

    def __post_init__(self) -> None:
        """Raise InvalidField for a policy that contradicts itself."""
        if len(self.images) > IMAGES_MAX:
            raise InvalidField("images", f"there may be {IMAGES_MAX} at most", value=len(self.images), limit=IMAGES_MAX)
        if unknown := sorted(self.tcb_statuses - TCB_STATUSES):
            raise InvalidField("tcb_statuses", f"must be of {', '.join(sorted(TCB_STATUSES))}", value=unknown[0])
        if self.age_seconds <= 0:
            raise InvalidField("age_seconds", "must be above 0", value=self.age_seconds, limit=0)
        if self.production and any(image.provider is Provider.SIMULATED for image in self.images):
            raise InvalidField("images", "production takes no simulated ones", value=Provider.SIMULATED)

    def trusts(self, provider: Provider, image: str) -> bool:
        """Tell whether evidence that was taken for this image would still be."""
        if provider is Provider.SIMULATED and self.production:
            return False
        return any((one.provider, one.name) == (provider, image) for one in self.images)

    def admit(self, provider: Provider) -> None:
        """Raise BadEvidence for a provider whose evidence is not worth reading."""
        if provider is Provider.SIMULATED and self.production:
            raise BadEvidence(provider, "provider", "is simulated and proves nothing; production settings refuse it")
        if not any(image.provider is provider for image in self.images):
            raise BadEvidence(provider, "provider", "no image of it is allowed")


def appraise(facts: Facts, statement: Statement, *, policy: Policy, now: int) -> Attested:
    """Return what the evidence attests, if the policy takes it and it says this and nothing else. Raises BadEvidence.

    ``now`` is in seconds since 1970-01-01 UTC. Signatures were checked before: ``facts`` must come from this package's readers.
    """
    policy.admit(facts.provider)
    _check_platform(facts, policy)
    image = _image(facts, policy)
    _check_time(facts, policy, now)
    check_binding(facts, statement)
    return Attested(
        provider=facts.provider,
        image=image.name,
        measurements=facts.measurements,
        key=statement.key,
        binding=facts.bound,
        tcb_status=facts.tcb_status,
        valid_from=facts.valid_from,
        valid_to=facts.valid_to,
    )


def _check_platform(facts: Facts, policy: Policy) -> None:
    if facts.debug:
        raise BadEvidence(facts.provider, "debug", "is on: its host can read and change what is inside")
    if facts.provider in {Provider.INTEL_TDX, Provider.INTEL_SGX} and facts.tcb_status not in policy.tcb_statuses:
        taken = ", ".join(sorted(policy.tcb_statuses)) or "none"
        raise BadEvidence(
            facts.provider, "tcb_status", f"is {facts.tcb_status}; taken: {taken}", value=facts.tcb_status, limit=taken
        )
    for advisory in facts.advisories:
        if advisory in policy.refused_advisories:
            raise BadEvidence(facts.provider, "advisories", f"{advisory} is open on the platform", value=advisory)


def _image(facts: Facts, policy: Policy) -> Image:
    for image in policy.images:
        if image.matches(facts):
            return image
    known = [image for image in policy.images if image.provider is facts.provider]
    # of the nearest image, the registers that differ: a person wants to know which file to look at
    nearest = min((_differences(image, facts) for image in known), key=len)
    value = facts.measurements.get(nearest[0], "")
    raise BadEvidence(facts.provider, "measurements", f"are of no allowed image: {', '.join(nearest)} differ", value=value)


def _differences(image: Image, facts: Facts) -> list[str]:
    return [name for name, value in image.measurements.items() if facts.measurements.get(name) != value]


def _check_time(facts: Facts, policy: Policy, now: int) -> None:
    if not facts.valid_from <= now <= facts.valid_to:
        problem = f"holds from {facts.valid_from} to {facts.valid_to}, and it is {now}"
        raise BadEvidence(facts.provider, "validity", problem, value=now, limit=facts.valid_to)
    if facts.issued_at is None:
        return
    age = now - facts.issued_at
    if age > policy.age_seconds:
        raise BadEvidence(
            facts.provider, "timestamp", f"is {age} s old; {policy.age_seconds} s are taken", value=age, limit=policy.age_seconds
        )
    if age < -AHEAD_SECONDS:
        raise BadEvidence(
            facts.provider, "timestamp", f"is {-age} s ahead; {AHEAD_SECONDS} s are taken", value=-age, limit=AHEAD_SECONDS
        )


def check_binding(facts: Facts, statement: Statement) -> None:
    """Raise BadEvidence unless this statement is what the code inside had signed."""
    if not hmac.compare_digest(facts.bound, statement.report_data):
        raise BadEvidence(
            facts.provider, "binding", f"it says something else than {statement.report_data.hex()}", value=facts.bound.hex()
        )
    if facts.provider not in {Provider.AWS_NITRO, Provider.SIMULATED}:
        return
    if facts.nonce != statement.nonce:
        shown = "none" if facts.nonce is None else facts.nonce.hex()
        raise BadEvidence(facts.provider, "nonce", f"must be {statement.nonce.hex()}", value=shown)
    if facts.public_key is not None and _address(facts.public_key) != statement.key.lower():
        raise BadEvidence(facts.provider, "public_key", f"is not the key of {statement.key}", value=facts.public_key.hex())


def _address(key: bytes) -> str:
    """Return the address of a secp256k1 key in SEC 1's form; what is none has none."""
    try:
        point = PublicKey(key).format(compressed=False)
    except ValueError:
        return ""
    return f"0x{keccak(point[1:])[-20:].hex()}"
