"""Whatever a request says, it is an order or a refusal that names a field; nothing else can happen."""

from __future__ import annotations

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st

from aos.errors import InvalidField
from aos.v1.dispatcher_pb2 import CreateJobRequest, JobResult
from aos.v1.receipt_pb2 import Receipt
from gateway import chat, job_rows, jobs
from gateway.body import check, parse
from tests.gateway.test_body import VALUES

MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "developer", "user", "assistant"]), "content": st.text() | VALUES}),
    max_size=3,
)
NUMBERS = st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
CHATS = st.fixed_dictionaries(
    {"model": st.text(min_size=1), "messages": MESSAGES | VALUES},
    optional={name: NUMBERS | VALUES for name in chat.ChatRequest.model_fields if name not in {"model", "messages"}},
)
JOBS = st.fixed_dictionaries(
    {"prompt": st.text(min_size=1), "model": st.text(min_size=1)},
    optional={
        "tag": st.just("opml"),
        "params": st.dictionaries(st.sampled_from(sorted(jobs.Params.model_fields)), NUMBERS),
        "x": VALUES,
    },
)


class TestChats:
    @given(CHATS)
    def test_a_chat_is_an_order_or_a_refusal(self, fields):
        """And an order can be sent."""
        with contextlib.suppress(InvalidField):
            order = chat.order_of(check(chat.ChatRequest, chat.without_nulls(parse(json.dumps(fields).encode()).fields)))
            assert CreateJobRequest.FromString(CreateJobRequest(order=order).SerializeToString()).order == order


class TestJobs:
    @given(JOBS, st.sampled_from([None, 2]), st.booleans())
    def test_a_job_comes_back_as_it_was(self, job, indent, ascii_only):
        """What is kept of a job, put together with its order, is the job."""
        body = parse(json.dumps({"from": "p", "job": job}, indent=indent, ensure_ascii=ascii_only).encode())
        with contextlib.suppress(InvalidField):
            asked = check(jobs.Submission, body.fields)
            for can_chat in (True, False):
                kept = jobs.Job(order=jobs.order_of(asked.job, chat=can_chat), annotation=jobs.annotate(body, asked.tag))
                tag, text = job_rows.submitted(kept)
                assert (tag, json.dumps(json.loads(text))) == ("", json.dumps(job))

    def test_one_that_did_not_check(self):
        """An operator that was to check a job and did not has a row that says why, without text or signature."""
        job = jobs.Job(name="jobs/ab")
        job.order.model, job.order.prompt = "m", "p"
        answer = JobResult(operator="0x1", result="Yes", receipt=Receipt(signature=b"\x01\x02"))
        failed = JobResult(operator="0x2", review=True, reason="It did not check the job: it left, or gave it up.")

        first, second = job_rows.results_of(job, [answer, failed])
        assert (first["result"], first["signature"], first["reason"]) == ("Yes", "0x0102", "")
        assert (second["id"], second["result"], second["signature"], second["reason"]) == ("0x2_ab_", "", "", failed.reason)

    @given(st.text())
    def test_any_annotation_can_be_shown(self, annotation):
        """Jobs of other doors have annotations of their own."""
        job = jobs.Job(annotation=annotation)
        job.order.model, job.order.prompt = "m", "p"
        assert json.loads(job_rows.submitted(job)[1])["prompt"] == "p"
