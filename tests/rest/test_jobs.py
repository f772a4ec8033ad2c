"""The jobs dialect: `/api/job/submit`, `/api/job/result`, `/api/job/detail`."""

from __future__ import annotations

import re

import pytest

from aos.v1.dispatcher_pb2 import GetJobRequest, GetReceiptRequest
from aos.v1.types_pb2 import Order, Sampling
from aos.verification.receipts import check_signature

pytestmark = pytest.mark.asyncio(loop_scope="module")

TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
ROW = [
    "id", "job_id", "operator", "result", "verify_id", "vrf", "clock", "signature", "job_type", "tag", "position", "created_at",
    "reason",
]  # fmt: skip
DETAIL = ["id", "job", "user", "job_type", "status", "tag", "position", "clock", "created_at", "reason"]


def submission(aos, **more):
    job = {"tag": "opml", "prompt": "What is AI?", "model": "scripted", "params": {"temperature": 0.5, "max_tokens": 64}}
    return {"from": "demo", "verify": aos.token, "user": "node-7", "tag": "", "job": job} | more


async def submitted(aos, bare, **more) -> str:
    """Submit, wait for the end, and return the job's id."""
    reply = await bare.post("/api/job/submit", json=submission(aos, **more))
    assert reply.status_code == 200, reply.text
    job = reply.json()["result"]
    [_ async for _ in aos.client.watch(f"jobs/{job}")]
    return job


class TestSubmit:
    async def test_the_reply_is_the_jobs_id(self, aos_rest, bare):
        """`code` 200 and 64 hex digits, which the native API knows as the job's name."""
        reply = await bare.post("/api/job/submit", json=submission(aos_rest))
        body = reply.json()
        assert list(body) == ["code", "result"]
        assert body["code"] == 200
        assert re.fullmatch("[0-9a-f]{64}", body["result"])
        outcome = await aos_rest.client.outcome(f"jobs/{body['result']}")
        assert outcome.text == "Scripted."

    async def test_only_what_is_needed_is_needed(self, aos_rest, bare):
        """user, tag, job.tag and job.params can be left out; the project's id may have its prefix."""
        least = {"from": "projects/demo", "verify": aos_rest.token, "job": {"prompt": "hi", "model": "scripted"}}
        assert (await bare.post("/api/job/submit", json=least)).json()["code"] == 200

    async def test_the_token_may_come_in_the_header(self, rest, aos_rest):
        """`authorization: Bearer` does what `verify` does."""
        reply = await rest.post("/api/job/submit", json=submission(aos_rest, verify=""))
        assert reply.json()["code"] == 200

    async def test_a_retry_is_safe_with_an_idempotency_key(self, aos_rest, bare):
        """The same key and body give the same job; the same key with another body is refused."""
        headers = {"idempotency-key": "once-and-only"}
        first = await bare.post("/api/job/submit", json=submission(aos_rest), headers=headers)
        second = await bare.post("/api/job/submit", json=submission(aos_rest), headers=headers)
        other = await bare.post("/api/job/submit", json=submission(aos_rest, user="another"), headers=headers)
        assert first.json() == second.json()
        assert (other.status_code, other.json()["code"], other.json()["result"]) == (409, 409, None)

    async def test_a_body_of_any_content_type_is_read(self, aos_rest, bare):
        """curl without a header says that JSON is a form; it is read all the same."""
        import json

        headers = {"content-type": "application/x-www-form-urlencoded"}
        reply = await bare.post("/api/job/submit", content=json.dumps(submission(aos_rest)), headers=headers)
        assert reply.json()["code"] == 200

    async def test_a_prompt_may_be_large(self, aos_rest, bare):
        """A prompt above what is kept of a job besides it goes through, and comes back in the detail."""
        prompt = "ä" * 7_000
        job = await submitted(aos_rest, bare, job={"model": "scripted", "prompt": prompt})
        detail = await bare.post("/api/job/detail", json={"job_id": job, "verify": aos_rest.token})
        assert detail.json()["result"]["job"] == {"model": "scripted", "prompt": prompt}


class TestResult:
    async def test_a_finished_job_has_one_row_with_every_field(self, aos_rest, bare):
        """All the documented keys are there, also those that have nothing to say."""
        job = await submitted(aos_rest, bare, tag="suspicion", user="suspected")
        reply = await bare.post("/api/job/result", json={"job_id": job, "verify": aos_rest.token})
        (row,) = reply.json()["result"]
        assert list(row) == ROW
        assert row["id"] == f"{row['operator']}_{job}_suspicion"
        assert (row["job_id"], row["verify_id"], row["tag"], row["job_type"], row["reason"]) == (job, job, "suspicion", "", "")
        assert row["result"] == "Scripted."
        assert row["operator"].lower() == aos_rest.operators[0].lower()
        assert row["vrf"]["selected"] is False
        assert set(row["vrf"]) == {"selected", "vrf_prompt_hash", "vrf_random_value", "vrf_verify_pubkey", "vrf_proof"}
        assert TIME.fullmatch(row["created_at"])

    async def test_the_signature_is_the_operators_receipt(self, aos_rest, bare):
        """It recovers to the operator over the job's receipt, so the result cannot be disowned."""
        job = await submitted(aos_rest, bare)
        row = (await bare.post("/api/job/result", json={"job_id": job, "verify": aos_rest.token})).json()["result"][0]
        bundle = await aos_rest.dispatcher.GetReceipt(GetReceiptRequest(name=f"jobs/{job}"))
        assert row["signature"] == f"0x{bundle.receipt.signature.hex()}"
        assert check_signature(bundle.receipt).lower() == row["operator"].lower()

    async def test_the_clock_is_a_vector_clock_of_strings(self, aos_rest, bare):
        """Node ids and counts, both as strings; the operator has a part in it."""
        job = await submitted(aos_rest, bare)
        clock = (await bare.post("/api/job/result", json={"job_id": job, "verify": aos_rest.token})).json()["result"][0]["clock"]
        assert all(isinstance(count, str) and int(count) > 0 for count in clock.values())
        assert aos_rest.operators[0].lower() in {node.lower() for node in clock}

    async def test_before_the_end_there_are_none(self, aos_rest, bare):
        """An empty list, not an error; the detail says where the job stands."""
        aos_rest.model.say("Held back.", to="hold me")
        hold = aos_rest.model.hold(after="Held")
        reply = await bare.post("/api/job/submit", json=submission(aos_rest, job={"prompt": "hold me", "model": "scripted"}))
        asked = {"job_id": reply.json()["result"], "verify": aos_rest.token}
        await hold.reached()
        result, detail = await bare.post("/api/job/result", json=asked), await bare.post("/api/job/detail", json=asked)
        hold.release()
        await aos_rest.client.outcome(f"jobs/{asked['job_id']}")
        after = await bare.post("/api/job/result", json=asked)
        assert result.json() == {"code": 200, "result": [], "next_page_token": ""}
        assert detail.json()["result"]["status"] == "dispatched"
        assert after.json()["result"][0]["result"] == "Held back."


class TestDetail:
    async def test_the_job_comes_back_in_its_own_words(self, aos_rest, bare):
        """Key order, number forms and unforeseen fields of `job` are what was submitted."""
        text = (
            '{"extra": {"z": 1.50, "a": [1e2, 10000000000000000000000]},  '
            '"prompt":"What \\u0069s AI?","model":"scripted","tag":"opml"}'
        )
        body = f'{{"from":"demo","verify":"{aos_rest.token}","user":"u","job":{text}}}'
        job = (await bare.post("/api/job/submit", content=body)).json()["result"]
        reply = await bare.post("/api/job/detail", json={"job_id": job, "verify": aos_rest.token})
        assert f'"job":{text.replace(chr(92) + "u0069s", "is")},"user"' in reply.text

    async def test_every_field_is_there(self, aos_rest, bare):
        """All the documented keys, with the job's status."""
        job = await submitted(aos_rest, bare, tag="malicious", user="distrusted")
        detail = (await bare.post("/api/job/detail", json={"job_id": job, "verify": aos_rest.token})).json()["result"]
        assert list(detail) == DETAIL
        assert (detail["id"], detail["user"], detail["job_type"], detail["tag"]) == (job, "distrusted", "", "malicious")
        assert detail["status"] == "completed"
        assert detail["job"] == submission(aos_rest)["job"]
        assert TIME.fullmatch(detail["created_at"])

    async def test_a_job_of_another_door_is_shown_in_this_dialect(self, aos_rest, bare):
        """Jobs submitted natively or as chats have a detail and a result here, too."""
        order = Order(model="scripted", prompt="native", sampling=Sampling(max_tokens=5, stop=["x"]))
        made = await aos_rest.client.submit(order)
        await aos_rest.client.outcome(made)
        job = made.name.removeprefix("jobs/")
        detail = (await bare.post("/api/job/detail", json={"job_id": job, "verify": aos_rest.token})).json()["result"]
        assert (detail["job"]["prompt"], detail["job"]["model"]) == ("native", "scripted")
        assert detail["job"]["params"]["max_tokens"] == 5
        assert detail["job"]["params"]["stop"] == ["x"]

    async def test_every_parameter_reaches_the_operator(self, aos_rest, bare):
        """What `params` say is in the order, and shown as it was said; whoever watches the job sees its log-probabilities."""
        params = {
            "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "typical_p": 0.8, "repetition_penalty": 1.1,
            "presence_penalty": -1.5, "frequency_penalty": 0.5, "logit_bias": {"65": 2.5, "7": -100.0}, "max_tokens": 64,
            "seed": 7, "stop": ["x"], "logprobs": True, "top_logprobs": 2,
        }  # fmt: skip
        asked = submission(aos_rest)
        asked["job"]["params"] = params
        job = (await bare.post("/api/job/submit", json=asked)).json()["result"]

        events = [event async for event in aos_rest.client.watch(f"jobs/{job}")]
        order = (await aos_rest.dispatcher.GetJob(GetJobRequest(name=f"jobs/{job}"))).order
        native = (await aos_rest.client.submit(order)).name.removeprefix("jobs/")

        assert b"".join(one.piece for event in events for one in event.chunk.logprobs) == b"Scripted."
        for shown in (job, native):
            detail = (await bare.post("/api/job/detail", json={"job_id": shown, "verify": aos_rest.token})).json()["result"]
            assert detail["job"]["params"] == params

    async def test_a_cancelled_job_says_so(self, aos_rest, bare, rest):
        """Its status is `cancelled`, and its one result has a reason and no text."""
        aos_rest.model.say("Never said.", to="cancel me")
        hold = aos_rest.model.hold(after="Never")
        reply = await bare.post("/api/job/submit", json=submission(aos_rest, job={"prompt": "cancel me", "model": "scripted"}))
        job = reply.json()["result"]
        await hold.reached()
        assert (await rest.post(f"/v1/jobs/{job}:cancel", json={})).json()["state"] == "JOB_STATE_CANCELLED"
        hold.release()
        asked = {"job_id": job, "verify": aos_rest.token}
        detail = (await bare.post("/api/job/detail", json=asked)).json()["result"]
        (row,) = (await bare.post("/api/job/result", json=asked)).json()["result"]
        assert (detail["status"], row["result"], row["signature"]) == ("cancelled", "", "")
        assert "cancelled" in row["reason"]


def wrong(path: str, value):
    """A change to a submission: the field at the path gets the value; ``...`` takes the field away."""

    def change(body):
        *parents, last = path.split(".")
        for parent in parents:
            body = body[parent]
        if value is ...:
            del body[last]
        else:
            body[last] = value

    return pytest.param(change, path, id=f"{path}={value!r:.30}")


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "field"),
        [
            wrong("from", ...),
            wrong("from", 5),
            wrong("user", {"id": 1}),
            wrong("tag", "risky"),
            wrong("verify", 7),
            wrong("job", ...),
            wrong("job", "What is AI?"),
            wrong("job.prompt", ...),
            wrong("job.prompt", ""),
            wrong("job.prompt", ["What is AI?"]),
            wrong("job.model", None),
            wrong("job.tag", "tee"),
            wrong("job.tag", "zkml"),
            wrong("job.tag", "quantum"),
            wrong("timeout", -1),
            wrong("timeout", 0),
            wrong("timeout", 1e6),
            wrong("redundancy", -1),
            wrong("job.params", [1]),
            wrong("job.params.temperature", "hot"),
            wrong("job.params.temperature", 3),
            wrong("job.params.top_p", 0),
            wrong("job.params.top_k", -1),
            wrong("job.params.max_tokens", 1.5),
            wrong("job.params.max_tokens", 0),
            wrong("job.params.seed", 1 << 63),
            wrong("job.params.stop", "one"),
            wrong("job.params.best_of", 1),
            wrong("job.params.frequency_penalty", 3),
            wrong("job.params.min_p", -1),
            wrong("job.params.logit_bias", [5]),
            wrong("job.params.top_logprobs", 1),
            wrong("extra", 1),
        ],
    )
    async def test_a_wrong_field_is_named(self, aos_rest, bare, change, field):
        """400 with the field's name first, whatever is wrong with it."""
        body = submission(aos_rest)
        change(body)
        reply = await bare.post("/api/job/submit", json=body)
        assert (reply.status_code, reply.json()["code"], reply.json()["result"]) == (400, 400, None)
        assert reply.json()["message"].startswith(f"{field}: "), reply.text

    @pytest.mark.parametrize("path", ["submit", "result", "detail"])
    @pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b"{'a':1}", b"not json at all", b"\x00" * 100])
    async def test_junk_is_refused_in_the_dialects_shape(self, bare, path, data):
        """What is no JSON object gets 400 and the same three keys as every failure."""
        reply = await bare.post(f"/api/job/{path}", content=data)
        assert reply.status_code == 400
        assert set(reply.json()) == {"code", "message", "result"}
        assert reply.json()["message"].startswith("body: ")

    async def test_more_than_is_kept_is_refused(self, aos_rest, bare):
        """A job has a limit besides its prompt, and the refusal names it."""
        body = submission(aos_rest)
        body["job"]["notes"] = "x" * (64 << 10)
        reply = await bare.post("/api/job/submit", json=body)
        assert reply.status_code == 400
        assert "at most 65536 are kept" in reply.json()["message"]

    @pytest.mark.parametrize("path", ["submit", "result", "detail"])
    @pytest.mark.parametrize("token", ["", "wrong", "ümlaut", "two\nlines"])
    async def test_a_missing_or_wrong_token_is_401(self, aos_rest, bare, path, token):
        """Without the project's token there is nothing, not even whether a job exists."""
        body = submission(aos_rest, verify=token) if path == "submit" else {"job_id": "0" * 64, "verify": token}
        reply = await bare.post(f"/api/job/{path}", json=body)
        assert (reply.status_code, reply.json()["code"]) == (401, 401)

    async def test_the_token_of_another_project_is_401(self, aos_rest, bare):
        """`from` and `verify` must belong together."""
        reply = await bare.post("/api/job/submit", json=submission(aos_rest, **{"from": "another"}))
        assert reply.status_code == 401
        assert "from" in reply.json()["message"]

    async def test_the_administrator_is_no_project(self, aos_rest, bare):
        """The admin token has no jobs and no account: 403."""
        reply = await bare.post("/api/job/submit", json=submission(aos_rest, verify=aos_rest.admin_token))
        assert reply.status_code == 403

    @pytest.mark.parametrize("path", ["result", "detail"])
    async def test_an_unknown_job_is_404(self, aos_rest, bare, path):
        """Unlike an unfinished one, which has an empty list."""
        reply = await bare.post(f"/api/job/{path}", json={"job_id": "0" * 64, "verify": aos_rest.token})
        assert (reply.status_code, reply.json()["code"]) == (404, 404)
        assert "0" * 64 in reply.json()["message"]

    @pytest.mark.parametrize("job_id", [5, None, ["a"], {}])
    async def test_a_job_id_that_is_no_string_is_400(self, aos_rest, bare, job_id):
        """And named."""
        reply = await bare.post("/api/job/result", json={"job_id": job_id, "verify": aos_rest.token})
        assert reply.status_code == 400
        assert reply.json()["message"].startswith("job_id: ")
