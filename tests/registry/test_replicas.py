"""Replicas: what operators report, leases, what watchers see, and the audit log."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import pytest

from aos.registry.settings import RegistrySettings
from aos.rpc.channel import channel
from aos.store.opening import opened
from aos.testing.clock import ManualClock
from aos.v1 import registry_pb2 as pb
from aos.v1 import registry_pb2_grpc
from aos.verification.keys import OperatorKey
from tests.refusals import refused
from tests.registry.conftest import an_offer, running
from tests.registry.projects import a_replica, end, put, say, shown, signed, states

SECONDS = 10


def watching(registry, key: OperatorKey):
    return registry.stub.WatchProjects(signed(registry, key, pb.WatchProjectsRequest(operator=key.address)), timeout=SECONDS)


class TestReports:
    async def test_they_say_how_a_replica_is(self, registry, key):
        """State, reason, capabilities, times and what runs are shown; the lease begins anew."""
        replica = (await put(registry, key)).replicas[0]
        registry.clock.advance(seconds=20)
        how = {"reason": "connection refused", "capabilities": ["chat", "stream"], "running": 3}
        said = pb.ReplicaReport(id=replica.id, state=pb.REPLICA_STATE_UNHEALTHY, **how)
        said.next_probe.FromSeconds(registry.second + 5)
        said.checked.FromSeconds(registry.second)
        answer = await registry.stub.ReportReplicas(signed(registry, key, pb.ReportReplicasRequest(reports=[said])))

        one = (await shown(registry)).replicas[0]
        assert (one.state, one.reason, list(one.capabilities), one.running) == (said.state, *how.values())
        assert (one.next_probe, one.checked) == (said.next_probe, said.checked)
        assert answer.expires == one.expires
        assert one.expires.seconds == registry.second + 30
        assert "connection refused" in (await shown(registry)).reason

    async def test_nobody_else_reports(self, registry, key):
        """Another operator's word changes nothing, and it is told that the replica is not its own."""
        replica = (await put(registry, key)).replicas[0]
        answer = await say(registry, OperatorKey.create(), replica)
        assert list(answer.gone) == [replica.id]
        assert states(await shown(registry)) == {"Llama3-8B": "REGISTERED"}

    @pytest.mark.parametrize(
        ("field", "report"),
        [
            ("reports[0].id", pb.ReplicaReport(id="x", state=pb.REPLICA_STATE_HEALTHY)),
            ("reports[0].state", pb.ReplicaReport(id="a" * 32)),
            ("reports[0].state", pb.ReplicaReport(id="a" * 32, state=pb.REPLICA_STATE_GONE)),
            ("reports[0].reason", pb.ReplicaReport(id="a" * 32, state=pb.REPLICA_STATE_REFUSED, reason="x" * 513)),
            ("reports[0].capabilities", pb.ReplicaReport(id="a" * 32, state=2, capabilities=["a b"])),
            ("reports[0].capabilities", pb.ReplicaReport(id="a" * 32, state=2, capabilities=["a"] * 33)),
        ],
    )
    async def test_a_bad_field_is_refused_by_name(self, registry, key, field, report):
        """Each has its limit."""
        with refused("INVALID_FIELD", field=field):
            await registry.stub.ReportReplicas(signed(registry, key, pb.ReportReplicasRequest(reports=[report])))

    async def test_they_are_signed(self, registry, key):
        """By the operator that hosts; a report without a proof is nobody's."""
        replica = (await put(registry, key)).replicas[0]
        report = pb.ReplicaReport(id=replica.id, state=pb.REPLICA_STATE_HEALTHY)
        with refused("BAD_SIGNATURE"):
            await registry.stub.ReportReplicas(pb.ReportReplicasRequest(reports=[report]))


class TestLeases:
    async def test_a_replica_that_nobody_reports_lapses(self, registry, key):
        """After three reports that did not come; and one that does brings it back."""
        replica = (await put(registry, key)).replicas[0]
        await say(registry, key, replica)
        registry.clock.advance(seconds=29.9)
        assert states(await shown(registry)) == {"Llama3-8B": "HEALTHY"}
        registry.clock.advance(seconds=0.1)
        project = await shown(registry)
        assert states(project) == {"Llama3-8B": "LAPSED"}
        assert "does not report it any more, since 2026-01-01 00:00:30 UTC" in project.reason
        await say(registry, key, replica)
        assert states(await shown(registry)) == {"Llama3-8B": "HEALTHY"}

    async def test_a_name_is_free_once_all_lapsed_long_ago(self, registry, key):
        """A day later another key may have it."""
        await put(registry, key)
        registry.clock.advance(hours=23)
        other = OperatorKey.create()
        with refused("PERMISSION_DENIED"):
            await put(registry, other)
        registry.clock.advance(hours=1, seconds=30)
        assert (await put(registry, other)).owner == other.address.lower()

    async def test_projects_survive_a_restart(self, database_address, key):
        """Ids, states, leases and used proofs are kept."""
        clock = ManualClock()
        async with running(database_address, clock=clock) as registry:
            await say(registry, key, *(await put(registry, key)).replicas)
            before = await shown(registry)
        async with running(database_address, clock=clock) as registry:
            assert await shown(registry) == before
            clock.advance(seconds=30)
            assert states(await shown(registry)) == {"Llama3-8B": "LAPSED"}

    async def test_the_registry_is_full_at_a_number(self, database_address, key):
        """Of projects, which is named."""
        settings = RegistrySettings(projects=1)
        async with running(database_address, clock=ManualClock(), settings=settings) as registry:
            await put(registry, key)
            with refused("QUEUE_FULL", queue="AI projects", limit="1"):
                await put(registry, key, project="other")
            registry.clock.advance(seconds=1)
            await put(registry, key, a_replica("b"))


class TestLists:
    async def test_projects_come_in_pages(self, registry, key):
        """By name, each once; and those with one model."""
        for index in range(5):
            await put(registry, key, a_replica(f"m{index % 2}"), project=f"p{index}")
        seen, token = [], ""
        while True:
            page = await registry.stub.ListAiProjects(pb.ListAiProjectsRequest(page_size=2, page_token=token))
            seen += [one.name for one in page.projects]
            token = page.next_page_token
            if not token:
                break
        assert seen == [f"p{index}" for index in range(5)]
        some = await registry.stub.ListAiProjects(pb.ListAiProjectsRequest(model="m1"))
        assert [one.name for one in some.projects] == ["p1", "p3"]

    async def test_the_log_tells_who_did_what(self, registry, key):
        """In order, with what time did by itself; for the administrator only."""
        project = await put(registry, key, a_replica("a"), a_replica("b"))
        await put(registry, key, a_replica("a"), a_replica("b"))  # changes nothing
        await say(registry, key, project.replicas[0])
        registry.clock.advance(seconds=30)
        await end(registry, key)
        with refused("PERMISSION_DENIED"):
            await registry.stub.ListAudit(pb.ListAuditRequest())
        async with channel(registry.address, "admin-token") as opened:
            log = await registry_pb2_grpc.RegistryStub(opened).ListAudit(pb.ListAuditRequest())
        address = key.address.lower()
        assert [(one.sequence, one.actor, one.action) for one in log.entries] == [
            (1, address, "register-project"),
            (2, "clock", "replica-lapsed"),
            (3, "clock", "replica-lapsed"),
            (4, address, "unregister-project"),
        ]
        assert log.entries[0].detail == f"2 replicas added, 0 kept, 0 removed, for {address}"

    async def test_the_log_cannot_be_rewritten(self, database_address, key):
        """The database itself refuses to change or drop an entry."""
        async with running(database_address, clock=ManualClock()) as registry:
            await put(registry, key)
        async with opened(database_address) as database:
            for statement in ("DELETE FROM registry_audit", "UPDATE registry_audit SET actor = 'nobody'"):
                with pytest.raises(Exception, match="append-only"):
                    await database.transact(lambda tx, statement=statement: tx.execute(statement) and None)


class TestWatching:
    async def test_an_operator_sees_what_it_hosts_and_every_change(self, registry, key):
        """At once, after a registration, when one is to be drained, and when it is gone; never what others host."""
        watch = watching(registry, key)
        first = await watch.read()
        assert list(first.replicas) == []
        await put(registry, OperatorKey.create(), project="theirs")
        mine = await put(registry, key)
        second = await watch.read()
        shown = [(one.id, one.project, one.owner, one.address) for one in second.replicas]
        assert shown == [(mine.replicas[0].id, "shop", key.address.lower(), "127.0.0.1")]
        assert second.version > first.version
        await say(registry, key, *mine.replicas)  # its own word is no news
        await end(registry, key)
        third = await watch.read()
        assert [one.state for one in third.replicas] == [pb.REPLICA_STATE_DRAINING]
        registry.clock.advance(seconds=1)
        await say(registry, key, *mine.replicas, state=pb.REPLICA_STATE_DRAINING)
        assert list((await watch.read()).replicas) == []
        watch.cancel()

    async def test_what_is_addressed_to_nobody_is_for_those_who_ask(self, database_address, key):
        """Until one of them has it."""
        async with running(database_address, clock=ManualClock(), settings=RegistrySettings(unsigned=True)) as registry:
            project = await put(registry, None)
            other = OperatorKey.create().address
            hosts = registry.stub.WatchProjects(pb.WatchProjectsRequest(operator=other, unaddressed=True), timeout=SECONDS)
            plain = registry.stub.WatchProjects(pb.WatchProjectsRequest(operator=other), timeout=SECONDS)
            assert len((await hosts.read()).replicas) == 1
            assert len((await plain.read()).replicas) == 0
            await say(registry, key, *project.replicas)
            assert len((await hosts.read()).replicas) == 0
            for one in (hosts, plain):
                one.cancel()

    async def test_drained_long_enough_it_is_gone_by_itself(self, registry, key):
        """Time passes in the store, and watchers hear of it without a call."""
        replicas = (await put(registry, key)).replicas
        await say(registry, key, *replicas)
        await end(registry, key)
        watch = watching(registry, key)
        assert len((await watch.read()).replicas) == 1
        async with asyncio.timeout(SECONDS):
            await registry.clock.until_asleep()
        registry.clock.advance(seconds=30)
        assert len((await watch.read()).replicas) == 0
        watch.cancel()

    async def test_nobody_else_sees_what_an_operator_hosts(self, registry, key):
        """Outside loopback development mode, the operator's own key asks: URLs tell much about a machine."""
        with refused("BAD_SIGNATURE"):
            await registry.stub.WatchProjects(pb.WatchProjectsRequest(operator=key.address), timeout=SECONDS).read()
        other = signed(registry, OperatorKey.create(), pb.WatchProjectsRequest(operator=key.address))
        with refused("PERMISSION_DENIED"):
            await registry.stub.WatchProjects(other, timeout=SECONDS).read()

    async def test_watchers_have_a_bounded_number(self, database_address, key):
        """One who leaves makes room for another."""
        settings = RegistrySettings(watchers=1)
        async with running(database_address, clock=ManualClock(), settings=settings) as registry:
            first = watching(registry, key)
            await first.read()
            with refused("QUEUE_FULL", limit="1"):
                await registry.stub.WatchCatalog(pb.WatchCatalogRequest(), timeout=SECONDS).read()
            first.cancel()
            async with asyncio.timeout(SECONDS):
                while True:  # the server hears of it a moment later
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        again = watching(registry, key)
                        await again.read()
                        break
            again.cancel()

    async def test_dispatchers_see_the_catalogue_and_every_change(self, registry, key):
        """Models and operators at once, after a registration, and when a lease lapses; a renewal is no change."""
        watch = registry.stub.WatchCatalog(pb.WatchCatalogRequest(), timeout=SECONDS)
        first = await watch.read()
        assert (list(first.models), list(first.operators), first.more) == ([], [], False)
        await registry.register(key, an_offer("m"))
        second = await watch.read()
        assert [model.name for model in second.models] == ["m"]
        assert [operator.routable for operator in second.operators] == [True]
        async with asyncio.timeout(SECONDS):
            await registry.clock.until_asleep()
        registry.clock.advance(seconds=20)
        await registry.renew(key)
        registry.clock.advance(seconds=29)
        registry.clock.advance(seconds=1)
        third = await watch.read()
        assert [operator.routable for operator in third.operators] == [False]
        assert third.version >= second.version
        watch.cancel()

    async def test_a_large_catalogue_comes_in_parts(self, registry):
        """All but the last say that more follows."""
        for _ in range(40):
            await registry.register(OperatorKey.create(), *(an_offer(f"{'m' * 120}{index}") for index in range(64)))
        watch = registry.stub.WatchCatalog(pb.WatchCatalogRequest(), timeout=60)
        parts = [await watch.read()]
        while parts[-1].more:
            parts.append(await watch.read())
        watch.cancel()
        assert len({part.version for part in parts}) == 1
        assert sum(len(part.operators) for part in parts) == 40
        assert sum(len(part.models) for part in parts) == 64


class TestOffersBehindReplicas:
    async def test_an_unregistered_replica_takes_its_model_away(self, registry, key):
        """At once, whatever its operator still offers."""
        project = await put(registry, key)
        await say(registry, key, *project.replicas)
        await registry.register(key, an_offer("own"), an_offer("hosted", replicas=[project.replicas[0].id]))
        assert (await registry.model("hosted")).routable
        await end(registry, key)
        with refused("MODEL_NOT_FOUND", offered="own"):
            await registry.model("hosted")
        assert (await registry.model("own")).routable
        assert (await registry.operator(key)).routable

    async def test_one_that_is_not_healthy_is_not_used(self, registry, key):
        """The reason says how it is; the operator is not used either if it has nothing else."""
        project = await put(registry, key)
        await registry.register(key, an_offer("hosted", replicas=[project.replicas[0].id]))
        assert (await registry.model("hosted")).routable
        await say(registry, key, *project.replicas, state=pb.REPLICA_STATE_UNHEALTHY, reason="refused")
        model = await registry.model("hosted")
        assert not model.routable
        assert "model servers that are unhealthy" in model.reason
        assert f"({project.replicas[0].api}: refused)" in model.reason
        assert "model servers that are unhealthy" in (await registry.operator(key)).reason

    async def test_three_of_them_are_named(self, registry, key):
        """Of many servers that are not healthy, three are named with what is wrong with each, and the rest are counted."""
        apis = [f"http://127.0.0.1:{port}/v1" for port in range(9001, 9006)]
        project = await put(registry, key, *(a_replica("hosted", api=api) for api in apis))
        await registry.register(key, an_offer("hosted", replicas=[one.id for one in project.replicas]))
        await say(registry, key, *project.replicas, state=pb.REPLICA_STATE_UNHEALTHY, reason="x" * 500)
        model = await registry.model("hosted")
        assert [api for api in apis if api in model.reason] == apis[:3]
        assert model.reason.endswith("xxx; 2 more)")
        assert "x" * 200 in model.reason
        assert "x" * 201 not in model.reason

    async def test_others_replicas_count_for_nothing(self, registry, key):
        """An operator cannot offer what another one hosts."""
        project = await put(registry, OperatorKey.create())
        await registry.register(key, an_offer("hosted", replicas=[project.replicas[0].id]))
        with refused("MODEL_NOT_FOUND"):
            await registry.model("hosted")

    async def test_they_are_signed_with_the_offer(self, registry, key):
        """Ids, and what an image model can do, come back as they were."""
        project = await put(registry, key)
        offer = an_offer("hosted", replicas=[project.replicas[0].id], images=True, image_edits=True)
        info = await registry.register(key, offer)
        assert list(info.offers) == [offer]
        model = await registry.model("hosted")
        assert (model.images, model.image_edits) == (True, True)
