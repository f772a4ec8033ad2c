"""Jobs whose answer must come with evidence of trusted execution: where they go, what counts, what is kept of what does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from aos.operator.llama import loaded
from aos.settings import bundled_model
from aos.testing.clock import ManualClock
from aos.testing.harness import running_aos
from aos.v1 import dispatcher_pb2 as pb
from aos.v1.attestation_pb2 import Attestation, TeeProvider
from aos.v1.types_pb2 import EmbeddingInput, Order
from aos.verification.attestation.bundle import check_attestation
from aos.verification.attestation.check import check, read
from aos.verification.attestation.evidence import DOCUMENT_BYTES
from aos.verification.attestation.policy import AGE_SECONDS, Image, Policy
from aos.verification.attestation.simulated import SimulatedTee, measured
from aos.verification.attestation.statement import answer
from aos.verification.attestation.wire import evidence_digest, read_attestation, sign_answer
from aos.verification.keys import OperatorKey
from aos.verification.receipts import check_bundle
from tests.dispatcher.enclave import POLICY, TEXT, TOKENS, Enclosed, enclosed
from tests.refusals import refused
from tests.verification.evidence import NITRO, NOW, TDX, flipped, published


@pytest_asyncio.fixture
async def tee(tmp_path) -> AsyncGenerator[Enclosed]:
    async with enclosed(tmp_path) as harness:
        yield harness


def texts(events: list[pb.JobEvent]) -> list[str]:
    return [event.chunk.text for event in events if event.HasField("chunk")]


class TestSubmitting:
    @pytest.mark.parametrize("kind", ["tee", "zkml", "x" * 5000])
    async def test_a_kind_that_nobody_takes_is_refused_with_what_there_is(self, tee, kind):
        """An operator without an attested key takes `opml` jobs; the refusal says so at once."""
        await tee.operator()
        with refused("INVALID_FIELD", code="INVALID_ARGUMENT", field="job_type", limit="opml"):
            await tee.submit(job_type=kind)

    async def test_a_job_is_of_its_kind(self, tee):
        """The kind is shown, `opml` unless another is asked for, and a retry with another kind is another request."""
        await tee.enclave(attach=False)
        assert (await tee.submit()).job_type == "opml"
        assert (await tee.submit(job_type="tee", request_id="r")).job_type == "tee"
        assert (await tee.submit(job_type="opml", request_id="s")).job_type == "opml"
        with refused("REQUEST_ID_REUSED", code="ALREADY_EXISTS"):
            await tee.submit(request_id="r")
        assert (await tee.submit(request_id="s")).job_type == "opml"


class TestPlacement:
    async def test_it_goes_to_an_attested_key_however_busy_that_is(self, tee):
        """An idle operator without one gets `opml` jobs, never `tee` ones, and the explanation says why."""
        enclave = await tee.enclave()
        plain = await tee.operator()
        first, second = await tee.submit(job_type="tee"), await tee.submit(job_type="tee")
        leases = [await enclave.lease(), await enclave.lease()]
        assert {lease.job.hex() for lease in leases} == {first.name[5:], second.name[5:]}
        assert {lease.job_type for lease in leases} == {"tee"}
        waits = await tee.submit(job_type="tee")
        said = await tee.project.ExplainJob(pb.ExplainJobRequest(name=waits.name))
        assert {one.operator: one.reason for one in said.operators}[plain.address] == "has no attested key"
        other = await tee.submit()
        assert ((given := await plain.lease()).job.hex(), given.job_type) == (other.name[5:], "")

    async def test_a_key_declared_in_an_earlier_run_counts(self, tee):
        """Jobs and registrations outlive a crash; the operator attaches again and gets what waited."""
        enclave = await tee.enclave(attach=False)
        job = await tee.submit(job_type="tee")
        await tee.crash()
        await enclave.attach(tee.nobody)
        enclave.answer(await enclave.lease())
        assert (await tee.ends(job)).outcome.attested.key == enclave.key.address


class TestEvidence:
    async def test_the_outcome_shows_what_was_verified(self, tee):
        """Provider, image, registers, key and statement; the receipt comes with the evidence, and all of it checks offline."""
        enclave = await tee.enclave()
        job = await tee.submit(job_type="tee")
        enclave.answer(await enclave.lease())
        outcome = (await tee.ends(job)).outcome
        shown = outcome.attested
        assert (outcome.text, shown.provider, shown.image) == (TEXT, TeeProvider.TEE_PROVIDER_SIMULATED, "simulated")
        assert (shown.key, shown.measurements["PCR0"]) == (enclave.key.address, measured()[0].hex())
        assert shown.binding == answer(outcome.receipt).report_data
        assert shown.verified == int(tee.clock.now().timestamp())
        bundle = await tee.project.GetReceipt(pb.GetReceiptRequest(name=job.name))
        assert bundle.attested == shown
        assert False not in {one.good for one in [*check_bundle(bundle), *check_attestation(bundle, POLICY)]}

    async def test_text_comes_once_it_is_verified(self, tee):
        """Who watches sees nothing before; then the whole answer and its outcome."""
        enclave = await tee.enclave()
        job = await tee.submit(job_type="tee")
        lease = await enclave.lease()
        enclave.start(lease)
        await tee.until(job, "RUNNING")
        watching = asyncio.create_task(tee.watch(job))
        enclave.say(lease, "Nobody sees this.", (9,))
        enclave.fail(lease, "ENGINE_FAILED", retryable=True)
        again = await enclave.lease()
        assert (list(again.accepted_tokens), again.accepted_text_bytes) == ([], 0)
        enclave.answer(again)
        events = await watching
        assert "".join(texts(events)) == TEXT
        assert events[-1].outcome.attested.key == enclave.key.address

    async def test_of_one_that_is_cancelled_nothing_is_shown(self, tee):
        """What was computed by then has no evidence, so it is nobody's."""
        enclave = await tee.enclave()
        job = await tee.submit(job_type="tee")
        lease = await enclave.lease()
        enclave.start(lease)
        enclave.say(lease, TEXT, TOKENS)
        await tee.until(job, "RUNNING")
        cancelled = await tee.project.CancelJob(pb.CancelJobRequest(name=job.name))
        assert (cancelled.outcome.text, cancelled.outcome.HasField("attested")) == ("", False)
        assert await enclave.cancelled() == lease.id
        assert texts(await tee.watch(job)) == []

    async def test_vectors_have_it_too(self):
        """A job for embeddings may be a `tee` job: the digest of its vectors is what the evidence binds."""
        async with loaded(bundled_model(), slots=2) as model, running_aos(model, name="demo", attested=1) as aos:
            order = Order(model="demo", embedding=EmbeddingInput(texts=["one", "two"]))
            outcome = await aos.client.outcome(await aos.client.submit(order, job_type="tee"))
        assert len(outcome.embeddings) == 2
        assert outcome.attested.binding == answer(outcome.receipt).report_data

    async def test_other_jobs_keep_none(self, tee):
        """What nobody asked for and nobody has checked is not shown to anyone."""
        enclave = await tee.enclave()
        job = await tee.submit()
        enclave.answer(await enclave.lease())
        assert not (await tee.ends(job)).outcome.HasField("attested")
        bundle = await tee.project.GetReceipt(pb.GetReceiptRequest(name=job.name))
        assert (bundle.HasField("attestation"), bundle.HasField("attested")) == (False, False)


class TestFalseEvidence:
    async def test_that_of_another_job_is_kept_and_the_job_goes_elsewhere(self, tee):
        """Replayed evidence says something else; signed by its operator, it proves so by itself, and another's answer counts."""
        enclave = await tee.enclave()
        first = await tee.submit(job_type="tee")
        lease = await enclave.lease()
        replayed = enclave.tee.attest(answer(enclave.receipt(lease, TEXT, TOKENS)), now=enclave.now)
        enclave.answer(lease)
        await tee.ends(first)
        job = await tee.submit(job_type="tee")
        lease = await enclave.lease()
        honest = await tee.enclave()
        enclave.answer(lease, evidence=replayed)
        honest.answer(await honest.lease())
        assert (await tee.ends(job)).outcome.attested.key == honest.key.address
        (kept,) = await tee.evidence()
        assert (kept.operator, kept.job, kept.what) == (enclave.address, job.name, "attestation")
        assert (list(kept.fields), kept.proves) == (["binding"], True)
        record = json.loads(kept.record)
        assert record["evidence"] == evidence_digest(read_attestation(kept.attestation)).hex()
        # what is kept is enough for anyone: the operator signed it for this receipt
        assert kept.attestation.signature == sign_answer(replayed, kept.receipt, enclave.key).signature

    async def test_changed_evidence_is_kept_without_proving_a_lie(self, tee):
        """A document that was cut or changed shows that it is broken, not who broke it: it proves nothing."""
        enclave = await tee.enclave()
        job = await tee.submit(job_type="tee")
        lease = await enclave.lease()
        good = enclave.tee.attest(answer(enclave.receipt(lease, TEXT, TOKENS)), now=enclave.now)
        enclave.answer(lease, evidence=replace(good, document=flipped(good.document, 8 * (len(good.document) - 1))))
        enclave.answer(await enclave.lease())
        await tee.ends(job)
        (kept,) = await tee.evidence()
        assert (kept.what, list(kept.fields), kept.proves) == ("attestation", ["signature"], False)

    async def test_old_evidence_is_refused(self, tee):
        """A document older than the policy's age counts no more, for the same answer too."""
        enclave = await tee.enclave()
        job = await tee.submit(job_type="tee")
        lease = await enclave.lease()
        early = enclave.now - AGE_SECONDS - 60
        old = SimulatedTee(measured(), now=early)
        receipt = enclave.receipt(lease, TEXT, TOKENS)
        enclave.answer(lease, evidence=old.attest(answer(receipt), now=early))
        enclave.answer(await enclave.lease())
        await tee.ends(job)
        (kept,) = await tee.evidence()
        assert (list(kept.fields), kept.proves) == (["timestamp"], False)

    async def test_without_it_no_answer_counts(self, tmp_path):
        """A signed receipt alone is no answer to a `tee` job; tried as often as is tolerated, the job says why it failed."""
        async with enclosed(tmp_path, max_attempts=2) as tee:
            enclave = await tee.enclave()
            job = await tee.submit(job_type="tee")
            for _ in range(2):
                lease = await enclave.lease()
                enclave.start(lease)
                enclave.say(lease, TEXT, TOKENS)
                enclave.finish(lease, TEXT, TOKENS)
            ended = await tee.ends(job)
            assert (ended.outcome.error.metadata["field"], ended.outcome.text) == ("attestation", "")
            assert await tee.evidence() == []

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda message: message.MergeFrom(Attestation(signature=b"\1" * 65)),
            lambda message: message.MergeFrom(Attestation(document=bytes(DOCUMENT_BYTES + 1))),
            lambda message: message.MergeFrom(Attestation(provider=9)),
        ],
        ids=["signature", "size", "provider"],
    )
    async def test_what_the_operator_did_not_sign_is_not_held_against_it(self, tee, spoil):
        """Unsigned, outsized or of an unknown provider: refused, and nothing of it is kept."""
        enclave = await tee.enclave()
        job = await tee.submit(job_type="tee")
        lease = await enclave.lease()
        receipt = enclave.receipt(lease, TEXT, TOKENS)
        message = sign_answer(enclave.tee.attest(answer(receipt), now=enclave.now), receipt, enclave.key)
        spoil(message)
        enclave.answer(lease, message=message)
        enclave.answer(await enclave.lease())
        assert (await tee.ends(job)).attempts == 2
        assert await tee.evidence() == []

    async def test_that_of_another_key_is_refused(self, tee):
        """An enclave's word for one operator's key is no word for another's."""
        enclave = await tee.enclave()
        job = await tee.submit(job_type="tee")
        lease = await enclave.lease()
        stranger = enclave.receipt(lease, TEXT, TOKENS, key=OperatorKey.create())
        enclave.answer(lease, evidence=enclave.tee.attest(answer(stranger), now=enclave.now))
        enclave.answer(await enclave.lease())
        await tee.ends(job)
        (kept,) = await tee.evidence()
        assert (list(kept.fields), kept.proves) == (["binding"], True)


class TestPublishedEvidence:
    @pytest.mark.parametrize(("name", "registers"), [(TDX, ("MRTD", "RTMR1", "RTMR2")), (NITRO, ("PCR0",))])
    async def test_real_hardware_that_says_something_else(self, tmp_path, name, registers):
        """A genuine quote, of a trusted program, on a good platform, in time, but for another statement: kept as a lie."""
        found = read(published(name), now=NOW[name])
        trusted = Image("published", found.provider, {one: found.measurements[one] for one in registers})
        policy = Policy(images=(*POLICY.images, trusted), production=False)
        clock = ManualClock(datetime.fromtimestamp(NOW[name], UTC))
        async with enclosed(tmp_path, policy=policy, clock=clock) as tee:
            enclave = await tee.enclave()
            job = await tee.submit(job_type="tee")
            enclave.answer(await enclave.lease(), evidence=published(name))
            enclave.answer(await enclave.lease())
            assert (await tee.ends(job)).outcome.attested.image == "simulated"
            (kept,) = await tee.evidence()
            assert (list(kept.fields), kept.proves, kept.attestation.provider != 0) == (["binding"], True, True)


class TestProduction:
    async def test_simulated_answers_are_refused_always(self, tmp_path):
        """A key that was declared in development counts no more once the same data is opened for production."""
        async with enclosed(tmp_path) as tee:
            await tee.enclave(attach=False)
            job = await tee.submit(job_type="tee")
            tee.settings = replace(tee.settings, tee=Policy())
            await tee.restart_from(tee.path)
            enclave = await tee.enclave()
            enclave.answer(await enclave.lease())
            kept = await tee.eventually(tee.evidence, bool)
            assert (kept[0].fields[0], kept[0].proves) == ("provider", False)
            assert (await tee.job(job)).state != pb.JobState.JOB_STATE_COMPLETED


class TestManyAnswers:
    async def test_each_has_evidence_of_its_own(self, tee):
        """Handed in at once, all are verified, each for its own job; anyone can verify them again."""
        enclave = await tee.enclave()
        jobs = [await tee.submit(f"Question {number}?", job_type="tee") for number in range(8)]
        for _ in jobs:
            enclave.answer(await enclave.lease())
        ended = [await tee.ends(job) for job in jobs]
        assert len({job.outcome.attested.binding for job in ended}) == len(jobs)
        for job in ended:
            bundle = await tee.project.GetReceipt(pb.GetReceiptRequest(name=job.name))
            found = check(read_attestation(bundle.attestation), answer(bundle.receipt), policy=POLICY, now=bundle.receipt.issued_at)
            assert found.binding == job.outcome.attested.binding
