"""Several expositions become one that Prometheus can read."""

from __future__ import annotations

import tempfile

import pytest
from google.api.httpbody_pb2 import HttpBody
from prometheus_client.parser import text_string_to_metric_families

from aos.metrics import CollectorRegistry, Counter, Gauge, exposition
from aos.rpc.channel import channel
from aos.rpc.server import Service, serving
from aos.v1 import operator_pb2, operator_pb2_grpc
from gateway.metrics import MetricsServicer, merged
from gateway.v1 import metrics_pb2, metrics_pb2_grpc
from tests.gateway import scripted_network as scripted
from tests.refusals import refused

ADMIN = "admin-token"


def told(operator: str, *, help_: str = "Said.") -> str:
    registry = CollectorRegistry()
    Counter("said", help_, ["operator"], registry=registry).labels(operator).inc(3)
    Gauge("busy", "Busy.", ["operator", "note"], registry=registry).labels(operator, 'a "quoted"\n# HELP line').set(0.5)
    return exposition(registry).data.decode()


def series(text: str) -> dict[str, dict[str, float]]:
    return {
        family.name: {sample.labels.get("operator", ""): sample.value for sample in family.samples if sample.name.endswith(ending)}
        for family in text_string_to_metric_families(text)
        for ending in [{"counter": "_total"}.get(family.type, "")]
        if not family.name.endswith("_created")
    }


class TestMerged:
    def test_one_is_itself(self):
        """Nothing is lost or moved."""
        text = told("a")
        assert merged([text]) == text

    def test_a_metric_of_several_is_described_once(self):
        """Its series stand together, whatever each says of it."""
        text = merged([told("a"), told("b", help_="Said otherwise."), ""])
        assert series(text) == {"said": {"a": 3, "b": 3}, "busy": {"a": 0.5, "b": 0.5}}
        assert text.count("# HELP said_total ") == text.count("# TYPE said_total ") == 1
        lines = [line.split("{")[0] for line in text.splitlines() if not line.startswith("#")]
        assert [name for name, before in zip(lines, ["", *lines], strict=False) if name != before] == list(dict.fromkeys(lines))


class Operator(operator_pb2_grpc.OperatorServicer):
    """Tells ``told("a")``."""

    async def GetMetrics(self, request, context):
        return HttpBody(data=told("a").encode())


@pytest.fixture
async def address():
    """Where metrics are served: one operator tells its own, another is not there."""
    registry = CollectorRegistry()
    Gauge("own", "Own.", registry=registry).set(1)
    operator = operator_pb2.DESCRIPTOR.services_by_name["Operator"]
    metrics = metrics_pb2.DESCRIPTOR.services_by_name["Metrics"]
    with tempfile.TemporaryDirectory(prefix="aos-test-") as folder:
        there, nowhere, here = (f"unix:{folder}/{name}" for name in ("there", "nowhere", "here"))
        async with (
            serving(
                Service(operator, operator_pb2_grpc.add_OperatorServicer_to_server, Operator()),
                authenticate=scripted.authenticator(),
                addresses=(there,),
                grace=0,
            ),
            channel(there) as one,
            channel(nowhere) as other,
            serving(
                Service(
                    metrics,
                    metrics_pb2_grpc.add_MetricsServicer_to_server,
                    MetricsServicer(lambda: exposition(registry), [one, other]),
                ),
                authenticate=scripted.authenticator(),
                addresses=(here,),
                grace=0,
            ),
        ):
            yield here


class TestServed:
    async def test_an_operator_that_is_not_there_is_counted(self, address):
        """The others' metrics are told all the same."""
        async with channel(address, ADMIN) as opened:
            body = await metrics_pb2_grpc.MetricsStub(opened).GetMetrics(metrics_pb2.GetMetricsRequest())
        assert series(body.data.decode()) == {
            "own": {"": 1},
            "aos_operators_silent": {"": 1},
            "said": {"a": 3},
            "busy": {"a": 0.5},
        }

    @pytest.mark.parametrize(("token", "reason"), [("", "UNAUTHENTICATED"), (scripted.TOKEN, "PERMISSION_DENIED")])
    async def test_only_the_administrator_is_told(self, address, token, reason):
        """Nobody else learns how busy the network is."""
        async with channel(address, token) as opened:
            with refused(reason):
                await metrics_pb2_grpc.MetricsStub(opened).GetMetrics(metrics_pb2.GetMetricsRequest())
