"""`POST /v1/run` as data: what a body may say, and the events that a run becomes."""

from __future__ import annotations

import json
import uuid

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from aos.errors import InvalidField, ModelUnavailable
from aos.v1.dispatcher_pb2 import Job, JobError, JobState, Outcome
from aos.v1.operator_pb2 import Chunk
from aos.v1.registry_pb2 import Model
from aos.v1.types_pb2 import BranchEnd, BranchStep, Control, FinishReason, Order, RunStep, Usage, VariableWrite
from gateway.aici_requests import RunRequest, argument, choose_model, open_fields, order_of, prefix
from gateway.aici_stream import DONE, RunStream
from gateway.body import check

JOB = "ab" * 32
DIGEST = bytes(32)
COMPLETED = Outcome(state=JobState.JOB_STATE_COMPLETED)
STOP, LENGTH = BranchEnd.BRANCH_END_STOP, BranchEnd.BRANCH_END_LENGTH
FAIL, OUT_OF_FUEL = BranchEnd.BRANCH_END_FAIL, BranchEnd.BRANCH_END_OUT_OF_FUEL


def a_stream(*, controlled: bool = True) -> RunStream:
    control = Control(controller=DIGEST) if controlled else None
    return RunStream(
        Job(name=f"jobs/{JOB}", order=Order(model="m", prompt="x", control=control), created=Timestamp(seconds=1706571547))
    )


def events(data: bytes) -> list:
    """What the records say, the end mark as it is."""
    lines = data.decode().split("\n\n")
    assert lines.pop() == ""
    said = [line.removeprefix("data: ") for line in lines]
    assert all(line.startswith("data: ") for line in lines)
    return [one if one == "[DONE]" else json.loads(one) for one in said]


def step(*branches: BranchStep, sampled: int = 1, fed: int = 1) -> RunStep:
    return RunStep(branches=branches, sampled_tokens=sampled, ff_tokens=fed)


class TestARequest:
    """What a body may say."""

    def read(self, **fields) -> RunRequest:
        return check(RunRequest, open_fields({"controller": "c", "controller_arg": ""} | fields))

    def test_has_the_documented_defaults(self):
        """Left out, or null, a field is what the AICI server takes it to be: greedy, and as long as the context lets it."""
        order = order_of(self.read(temperature=None, top_k=None), "m", DIGEST)
        assert (order.prompt, order.sampling.temperature, order.sampling.top_p, order.sampling.top_k) == ("", 0.0, 1.0, 0)
        assert not order.sampling.HasField("max_tokens")

    def test_passes_an_argument_on(self):
        """A string is told as it is, anything else as compact JSON."""
        assert argument('{"a": 1}') == '{"a": 1}'
        assert argument({"a": [1, "é"], "b": None}) == '{"a":[1,"é"],"b":null}'
        assert order_of(self.read(controller_arg=None), "m", DIGEST).control.argument == "null"

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"temperature": -0.1}, "temperature"),
            ({"top_p": 0}, "top_p"),
            ({"top_k": -2}, "top_k"),
            ({"max_tokens": 0}, "max_tokens"),
        ],
    )
    def test_names_what_is_out_of_range(self, fields, field):
        """The refusal names the field."""
        with pytest.raises(InvalidField, match=field):
            self.read(**fields)

    def test_needs_an_argument(self):
        """Also a controller that is told nothing is told so."""
        with pytest.raises(InvalidField, match="controller_arg"):
            check(RunRequest, {"controller": "c"})

    def test_ignores_what_it_does_not_know(self):
        """As the AICI server does."""
        assert self.read(n=1, stream=True).controller == "c"

    def test_takes_the_prompt_from_the_argument_without_a_controller(self):
        """With `none` a string argument is the prompt, another argument leaves it to `prompt`, and an empty one is a space."""
        plain = self.read(controller="none", controller_arg="Hello", prompt="World")
        assert order_of(plain, "m", b"").prompt == "Hello"
        assert order_of(self.read(controller_arg={}, prompt="World"), "m", b"").prompt == "World"
        assert order_of(self.read(), "m", b"").prompt == " "
        assert not order_of(plain, "m", b"").HasField("control")


class TestTheModel:
    """Which model runs a controller that names none."""

    MODELS = (
        Model(name="old", routable=True, created=Timestamp(seconds=1)),
        Model(name="gone", controllers=True, created=Timestamp(seconds=2)),
        Model(name="new", routable=True, controllers=True, created=Timestamp(seconds=4)),
        Model(name="demo/one", routable=True, controllers=True, created=Timestamp(seconds=3)),
    )

    def choose(self, *, asked: str = "", before: str = "", controlled: bool = True) -> str:
        return choose_model(self.MODELS, asked=asked, before=before, controlled=controlled)

    def test_is_what_the_body_says_then_what_the_path_says(self):
        """A prefix of the path may be a model's name; one that is not is only a prefix."""
        assert self.choose(asked="x", before="new") == "x"
        assert self.choose(before="new") == "new"
        assert self.choose(before=prefix("/demo%2Fone/v1/run?x=1")) == "demo/one"
        assert self.choose(before=prefix("/some/where/v1/run")) == "demo/one"
        assert prefix("/v1/run") == prefix("/v1/other") == ""

    def test_is_the_oldest_that_can(self):
        """Without a name, the model that was offered first of those that run controllers; without a controller, any that writes."""
        assert self.choose() == "demo/one"
        assert self.choose(controlled=False) == "old"

    def test_has_to_be_there(self):
        """Where no model runs controllers now, that is what the caller hears."""
        with pytest.raises(ModelUnavailable, match="runs controllers"):
            choose_model(self.MODELS[:2], asked="", before="", controlled=True)


class TestTheStream:
    """The events of a run."""

    def test_begins_with_the_run(self):
        """The first event names the run by a UUID, and the job that it is."""
        (opening,) = events(a_stream().opening())
        assert uuid.UUID(opening.pop("id").removeprefix("run-")).version == 4
        assert opening == {"object": "initial-run", "created": 1706571547, "model": "m", "job": f"jobs/{JOB}"}

    def test_is_that_of_the_documented_example(self):
        """A fixed text, two digits, a variable and a stop: texts, counts and costs are those of the AICI page."""
        stream = a_stream()
        value = VariableWrite(name="answer", value=b"42")
        told = [
            stream.step(step(BranchStep(text="The answer is 4", micros=5), fed=15)),
            stream.step(step(BranchStep(text="2"), sampled=2, fed=16)),
            stream.step(step(BranchStep(writes=[value], logs="done\n", end=STOP), sampled=3, fed=17)),
            stream.end(COMPLETED),
        ]
        *said, done = [one for part in told for one in events(part)]
        assert done == "[DONE]"
        assert [one["usage"]["cost"] for one in said] == [17, 20, 23, 23]
        assert [one["forks"][0]["text"] for one in said] == ["The answer is 4", "2", "", ""]
        assert said[0] == {
            "object": "run",
            "forks": [
                {
                    "index": 0,
                    "text": "The answer is 4",
                    "error": "",
                    "logs": "",
                    "storage": [],
                    "micros": 5,
                }
            ],
            "usage": {"sampled_tokens": 1, "ff_tokens": 15, "cost": 17},
        }
        assert said[2]["forks"][0]["storage"] == [
            {"WriteVar": {"name": "answer", "value": "3432", "op": "Set", "when_version_is": None}}
        ]
        assert [one["forks"][0].get("finish_reason") for one in said] == [None, None, "aici-stop", "aici-stop"]

    def test_lists_all_forks_each_time(self):
        """Each event has every fork so far, in order; one that has ended repeats how, and says nothing more."""
        stream = a_stream()
        stream.step(step(BranchStep(text="a", end=STOP), BranchStep(index=1, text="a", forked_from=0)))
        (later,) = events(stream.step(step(BranchStep(index=1, text="b"), BranchStep(index=2, forked_from=1))))
        assert [(one["index"], one.get("finish_reason"), one["text"]) for one in later["forks"]] == [
            (0, "aici-stop", ""), (1, None, "b"), (2, None, ""),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("end", "finish", "said"),
        [(LENGTH, "length", "MaxTokensReached"), (FAIL, "fail", "Failed"), (OUT_OF_FUEL, "aici-out-of-fuel", "AiciOutOfFuel")],
    )
    def test_says_that_an_end_was_abnormal(self, end, finish, said):
        """An end that the controller did not choose stands in its log and its error, once."""
        stream = a_stream()
        (ended,) = events(stream.step(step(BranchStep(logs="log", error="Error (mid): boom", end=end))))
        (fork,) = ended["forks"]
        assert (fork["finish_reason"], fork["logs"]) == (finish, f"log\nAbnormal finish: {said}")
        assert fork["error"] == f"Error (mid): boom\nAbnormal finish: {said}"
        again, _ = events(stream.end(COMPLETED))
        assert (again["forks"][0]["finish_reason"], again["forks"][0]["error"]) == (finish, "")

    def test_is_one_event_if_the_controller_cannot_be_set_up(self):
        """A failure in its setup is told by the run's only event, with counts of nothing, and the end mark."""
        stream = a_stream()
        (failed,) = events(stream.step(step(BranchStep(logs="panic", error="Error (setup): boom", end=FAIL), sampled=0, fed=0)))
        assert (failed["forks"][0]["finish_reason"], failed["forks"][0]["error"]) == ("fail", "Error (setup): boom")
        assert failed["usage"] == {"sampled_tokens": 0, "ff_tokens": 0, "cost": 0}
        assert stream.end(COMPLETED) == DONE

    def test_says_in_it_why_it_breaks_off(self):
        """Once it has begun, a job that fails ends the forks that go on, with the reason, and the stream as any other."""
        stream = a_stream()
        stream.step(step(BranchStep(end=STOP), BranchStep(index=1, forked_from=0)))
        failed = Outcome(state=JobState.JOB_STATE_FAILED, error=JobError(message="The operator is gone."))
        last, done = events(stream.end(failed))
        assert [one["finish_reason"] for one in last["forks"]] == ["aici-stop", "abort"]
        assert last["forks"][1]["error"] == "The operator is gone.\nAbnormal finish: Aborted"
        assert done == "[DONE]"

    def test_says_that_nobody_signs_for_it(self):
        """A job that fails behind the end of its forks has no receipt: the last event has the reason."""
        stream = a_stream()
        stream.step(step(BranchStep(end=STOP)))
        last, _ = events(stream.end(Outcome(state=JobState.JOB_STATE_FAILED, error=JobError(message="No."))))
        assert [(one["finish_reason"], one["error"]) for one in last["forks"]] == [("aici-stop", "No.")]

    def test_tells_text_without_a_controller(self):
        """With `none` the text comes as one fork's, and ends where the model ends it."""
        stream = a_stream(controlled=False)
        (said,) = events(stream.plain(Chunk(text="Hello", tokens=[1, 2])))
        assert (said["forks"][0]["text"], said["usage"]["sampled_tokens"]) == ("Hello", 2)
        usage = Usage(prompt_tokens=5, completion_tokens=2)
        outcome = Outcome(state=JobState.JOB_STATE_COMPLETED, usage=usage, finish_reason=FinishReason.FINISH_REASON_STOP)
        *ends, done = events(stream.end(outcome))
        assert done == "[DONE]"
        assert [one["forks"][0]["finish_reason"] for one in ends] == ["eos", "eos"]
        assert ends[-1]["usage"] == {"sampled_tokens": 2, "ff_tokens": 6, "cost": 10}
