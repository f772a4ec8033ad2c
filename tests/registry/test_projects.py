"""AI projects: registering, ending, and what time does to them."""

from __future__ import annotations

import pytest

from aos.registry.settings import RegistrySettings
from aos.rpc.channel import channel
from aos.testing.clock import START, ManualClock
from aos.v1 import registry_pb2 as pb
from aos.v1 import registry_pb2_grpc
from aos.verification.keys import OperatorKey
from tests.databases import ON_SQLITE
from tests.refusals import refused
from tests.registry.conftest import running
from tests.registry.projects import API, a_replica, changes, end, put, say, shown, signed, states


class TestRegistering:
    async def test_a_project_is_shown_with_its_replicas(self, registry, key):
        """Ids, times, the operator that signed, and why nothing is used yet."""
        project = await put(registry, key, a_replica("a"), a_replica("b", kind=pb.MODEL_KIND_IMAGE, cid="c1"))

        first, second = project.replicas
        assert (project.name, project.owner, project.version) == ("shop", key.address.lower(), 1)
        assert (first.model, first.api, first.kind, first.cid) == ("a", API, pb.MODEL_KIND_TEXT, "")
        assert (second.kind, second.cid, second.operator) == (pb.MODEL_KIND_IMAGE, "c1", key.address.lower())
        assert first.address == "127.0.0.1"
        assert project.expires.seconds == START.timestamp() + 30
        assert changes(project) == {"a": "ADDED", "b": "ADDED"}
        assert states(await shown(registry)) == {"a": "REGISTERED", "b": "REGISTERED"}
        assert "not checked it yet" in project.reason

    async def test_the_same_list_changes_nothing(self, registry, key):
        """Ids, version and lease stay, whether the same proof comes again or a new one."""
        first = await put(registry, key)
        again = await put(registry, key)
        registry.clock.advance(seconds=1)
        later = await put(registry, key)

        assert changes(again) == changes(later) == {"Llama3-8B": "KEPT"}
        assert [one.replicas[0].id for one in (again, later)] == [first.replicas[0].id] * 2
        assert (later.version, later.lease_id, later.expires) == (1, first.lease_id, first.expires)

    async def test_a_shorter_list_takes_models_away(self, registry, key):
        """What is missing goes; what stays keeps its id and its state."""
        before = await put(registry, key, a_replica("a"), a_replica("b"))
        await say(registry, key, before.replicas[0], capabilities=["chat"])
        registry.clock.advance(seconds=1)
        after = await put(registry, key, a_replica("a"))

        assert changes(after) == {"a": "KEPT", "b": "REMOVED"}
        kept = (await shown(registry)).replicas
        assert [(one.id, one.state, list(one.capabilities)) for one in kept] == [
            (before.replicas[0].id, pb.REPLICA_STATE_HEALTHY, ["chat"])
        ]
        assert after.version == 2

    async def test_two_at_once_leave_one_of_their_lists(self, registry, key):
        """Concurrent registrations happen one after the other: never a mixture."""
        import asyncio

        lists = [[a_replica(f"{name}{index}") for index in range(20)] for name in "abcd"]
        await asyncio.gather(*(put(registry, key, *one) for one in lists))
        left = {one.model for one in (await shown(registry)).replicas}
        assert left in [{spec.model for spec in one} for one in lists]

    @pytest.mark.parametrize(
        ("field", "replica"),
        [
            ("replicas[0].model", a_replica("")),
            ("replicas[0].model", a_replica("m" * 129)),
            ("replicas[0].cid", a_replica(cid="a b")),
            ("replicas[0].kind", a_replica(kind=9)),
            ("replicas[0].api", a_replica(api="")),
            ("replicas[0].api", a_replica(api="ftp://127.0.0.1/")),
            ("replicas[0].api", a_replica(api="http://127.0.0.1:1088/v1?x=1")),
            ("replicas[0].api", a_replica(api="http://127.0.0.1:6379/")),
            ("replicas[0].api", a_replica(api="http://user@127.0.0.1/")),
            ("replicas[0].api", a_replica(api="http://10.0.0.1/v1")),
            ("replicas[0].api", a_replica(api="http://8.8.8.8/v1")),
            ("replicas[0].api", a_replica(api="http://169.254.169.254/latest/meta-data")),
            ("replicas[0].api", a_replica(api="http://[::ffff:169.254.169.254]/")),
            ("replicas[0].api", a_replica(api="http://[2002:7f00:1::]/")),
            ("replicas[0].api", a_replica(api="http://0.0.0.0:80/")),
            ("replicas[0].api", a_replica(api="http://127.0.0.1:1088/" + "x" * 2048)),
            ("replicas[0].api", a_replica(api="http://no-such-name.invalid/")),
        ],
    )
    @ON_SQLITE
    async def test_a_bad_field_is_refused_by_name(self, registry, key, field, replica):
        """And nothing of the list is kept."""
        with refused("INVALID_FIELD", code="INVALID_ARGUMENT", field=field):
            await put(registry, key, replica, a_replica("good"))
        with refused("PROJECT_NOT_FOUND"):
            await shown(registry)

    @pytest.mark.parametrize(
        "api", ["http://localhost:1088", "http://127.9.9.9", "https://[::1]:8000/v1", "http://[::ffff:127.0.0.1]"]
    )
    async def test_this_machine_is_taken_however_it_is_written(self, registry, key, api):
        """With the address that it has kept for who connects."""
        replica = (await put(registry, key, a_replica(api=api))).replicas[0]
        assert replica.api == api
        assert replica.address in {"127.0.0.1", "127.9.9.9", "::1", "::ffff:7f00:1"}

    async def test_other_machines_are_taken_where_settings_name_them(self, database_address, key):
        """An exception is explicit, and holds for no other address."""
        from aos.addresses import read_networks

        settings = RegistrySettings(api_networks=read_networks(["10.0.0.0/8"], "api_networks"))
        async with running(database_address, clock=ManualClock(), settings=settings) as registry:
            assert (await put(registry, key, a_replica(api="http://10.1.2.3/v1"))).replicas[0].address == "10.1.2.3"
            with refused("INVALID_FIELD", limit="10.0.0.0/8"):
                await put(registry, key, a_replica())

    async def test_one_to_256_replicas(self, registry, key):
        """Far too many are refused at once, by their number."""
        for count in (257, 20_000):
            with refused("INVALID_FIELD", field="replicas", value=str(count), limit="256"):
                await registry.stub.RegisterProject(
                    pb.RegisterProjectRequest(project="p", replicas=[pb.ReplicaSpec(model=f"m{index}") for index in range(count)])
                )
        assert len((await put(registry, key, *(a_replica(f"m{index}") for index in range(256)))).replicas) == 256

    async def test_a_replica_is_there_once(self, registry, key):
        """The same model at the same URL needs another `cid`."""
        with refused("INVALID_FIELD", field="replicas[1]"):
            await put(registry, key, a_replica(), a_replica())
        assert len((await put(registry, key, a_replica(), a_replica(cid="two"))).replicas) == 2

    async def test_one_operator_has_a_bounded_number(self, registry, key):
        """Over all projects; and strangers may fill a part of it only."""
        many = [a_replica(f"m{index}") for index in range(256)]
        for project in "ab":
            await put(registry, key, *many, project=project)
        with refused("QUEUE_FULL", limit="512"):
            await put(registry, key, project="c")
        host, stranger = OperatorKey.create(), OperatorKey.create()
        await put(registry, stranger, *many[:128], project="d", operator=host.address)
        with refused("QUEUE_FULL", limit="128"):
            await put(registry, OperatorKey.create(), project="e", operator=host.address)
        assert (await put(registry, host, project="f")).replicas


class TestProofs:
    async def test_none_is_refused(self, registry):
        """Outside loopback development mode, registrations are signed."""
        with refused("BAD_SIGNATURE", code="UNAUTHENTICATED", saying="there is none"):
            await put(registry, None)

    async def test_none_is_needed_in_development(self, database_address, key):
        """There, whoever hosts it first has it."""
        async with running(database_address, clock=ManualClock(), settings=RegistrySettings(unsigned=True)) as registry:
            project = await put(registry, None)
            assert (project.owner, project.replicas[0].operator) == ("", "")
            await say(registry, key, *project.replicas)
            other = await say(registry, OperatorKey.create(), *project.replicas)
            assert list(other.gone) == [project.replicas[0].id]
            assert (await shown(registry)).replicas[0].operator == key.address.lower()

    async def test_the_administrator_changes_what_nobody_signed(self, database_address, key):
        """A network that leaves development mode is not stuck with it; what a key registered, and new ones, still need the key."""
        clock = ManualClock()
        async with running(database_address, clock=clock, settings=RegistrySettings(unsigned=True)) as registry:
            await put(registry, None, project="old")
        async with (
            running(database_address, clock=clock) as registry,
            channel(registry.address, "admin-token") as opened,
        ):
            await put(registry, key, project="signed")
            with refused("BAD_SIGNATURE"):
                await put(registry, None, project="old")
            registry.stub = registry_pb2_grpc.RegistryStub(opened)
            for name in ("new", "signed"):
                with refused("BAD_SIGNATURE", saying="without one the administrator"):
                    await put(registry, None, project=name)
            with refused("BAD_SIGNATURE"):
                await end(registry, None, project="signed")
            assert changes(await put(registry, None, a_replica("a"), project="old")) == {"a": "ADDED", "Llama3-8B": "REMOVED"}
            assert (await end(registry, None, project="old")).name == "old"
            log = await registry.stub.ListAudit(pb.ListAuditRequest())

        assert [(one.actor, one.action) for one in log.entries if one.subject == "old"] == [
            ("anyone", "register-project"),
            ("administrator", "register-project"),
            ("administrator", "unregister-project"),
        ]

    async def test_changed_contents_are_refused(self, registry, key):
        """A proof is good for the very list that it was made for."""
        request = signed(registry, key, pb.RegisterProjectRequest(project="shop", replicas=[a_replica()]))
        request.replicas[0].api = "http://127.0.0.1:9/"
        with refused("INVALID_FIELD"):
            await registry.stub.RegisterProject(request)
        request.replicas[0].api = "http://127.0.0.1:99/"
        with refused("BAD_SIGNATURE", claimed=key.address):
            await registry.stub.RegisterProject(request)

    async def test_only_its_owner_changes_a_project(self, registry, key):
        """Another key can neither replace nor end it, until it is gone."""
        await put(registry, key)
        other = OperatorKey.create()
        with refused("PERMISSION_DENIED", code="PERMISSION_DENIED"):
            await put(registry, other)
        with refused("PERMISSION_DENIED"):
            await end(registry, other)
        await end(registry, key, force=True)
        assert (await put(registry, other)).owner == other.address.lower()

    async def test_a_replayed_registration_brings_nothing_back(self, registry, key):
        """A listener who repeats it cannot undo an unregistration, even within the same second."""
        request = signed(registry, key, pb.RegisterProjectRequest(project="shop", replicas=[a_replica()]))
        await registry.stub.RegisterProject(request)
        await end(registry, key)
        with refused("BAD_SIGNATURE", saying="used before"):
            await registry.stub.RegisterProject(request)

    async def test_a_replayed_report_renews_nothing(self, registry, key):
        """A dead operator cannot be kept alive with its own words."""
        replica = (await put(registry, key)).replicas[0]
        report = pb.ReportReplicasRequest(reports=[pb.ReplicaReport(id=replica.id, state=pb.REPLICA_STATE_HEALTHY)])
        signed(registry, key, report)
        await registry.stub.ReportReplicas(report)
        registry.clock.advance(seconds=29)
        await registry.stub.ReportReplicas(report)
        registry.clock.advance(seconds=1)
        assert states(await shown(registry)) == {"Llama3-8B": "LAPSED"}

    async def test_an_old_proof_is_refused(self, registry, key):
        """More than a minute from the registry's clock is too far."""
        request = signed(registry, key, pb.RegisterProjectRequest(project="shop", replicas=[a_replica()]))
        registry.clock.advance(seconds=61)
        with refused("BAD_SIGNATURE", saying="60 s"):
            await registry.stub.RegisterProject(request)


class TestEnding:
    async def test_what_never_ran_goes_at_once(self, registry, key):
        """And a second time there is nothing to end."""
        await put(registry, key)
        ended = await end(registry, key)
        assert ended.state == pb.AI_PROJECT_STATE_GONE
        assert changes(ended) == {"Llama3-8B": "REMOVED"}
        registry.clock.advance(seconds=1)
        with refused("PROJECT_NOT_FOUND", code="NOT_FOUND", project="shop"):
            await end(registry, key)
        with refused("PROJECT_NOT_FOUND"):
            await shown(registry)

    async def test_running_requests_end_first(self, registry, key):
        """It is drained until its operator, who knows of it, says that nothing runs there."""
        replica = (await put(registry, key)).replicas[0]
        await say(registry, key, replica, running=2)
        assert (await end(registry, key)).state == pb.AI_PROJECT_STATE_DRAINING
        registry.clock.advance(seconds=10)
        await say(registry, key, replica, running=0)  # not heard of it yet: more may come
        assert states(await shown(registry)) == {"Llama3-8B": "DRAINING"}
        registry.clock.advance(seconds=10)
        await say(registry, key, replica, state=pb.REPLICA_STATE_DRAINING, running=1)
        assert "1 of its requests still run" in (await shown(registry)).replicas[0].reason
        registry.clock.advance(seconds=1)
        assert list((await say(registry, key, replica, state=pb.REPLICA_STATE_DRAINING)).gone) == [replica.id]
        with refused("PROJECT_NOT_FOUND"):
            await shown(registry)

    async def test_force_does_not_wait(self, registry, key):
        """Also for one that is being drained already."""
        await say(registry, key, *(await put(registry, key)).replicas, running=2)
        assert (await end(registry, key)).state == pb.AI_PROJECT_STATE_DRAINING
        with refused("PROJECT_NOT_FOUND"):
            await end(registry, key)
        assert (await end(registry, key, force=True)).state == pb.AI_PROJECT_STATE_GONE

    async def test_draining_has_an_end(self, registry, key):
        """However long its requests run and are reported."""
        replica = (await put(registry, key)).replicas[0]
        await say(registry, key, replica, running=1)
        await end(registry, key)
        for _ in range(59):
            registry.clock.advance(seconds=10)
            await say(registry, key, replica, state=pb.REPLICA_STATE_DRAINING, running=1)
        assert states(await shown(registry)) == {"Llama3-8B": "DRAINING"}
        registry.clock.advance(seconds=10)
        with refused("PROJECT_NOT_FOUND"):
            await shown(registry)

    async def test_a_late_report_revives_nothing(self, registry, key):
        """What was unregistered stays so, whoever reports it; registered again, it is another replica."""
        replica = (await put(registry, key)).replicas[0]
        await end(registry, key)
        assert list((await say(registry, key, replica)).gone) == [replica.id]
        with refused("PROJECT_NOT_FOUND"):
            await shown(registry)
        registry.clock.advance(seconds=1)
        again = (await put(registry, key)).replicas[0]
        assert again.id != replica.id
        assert list((await say(registry, key, replica)).gone) == [replica.id]
        assert states(await shown(registry)) == {"Llama3-8B": "REGISTERED"}

    async def test_one_that_is_wanted_back_goes_on(self, registry, key):
        """Registered again while it is drained, it keeps its id and what runs."""
        replica = (await put(registry, key)).replicas[0]
        await say(registry, key, replica, running=2)
        await end(registry, key)
        registry.clock.advance(seconds=1)
        again = await put(registry, key)
        assert (again.state, again.replicas[0].id, again.replicas[0].running) == (pb.AI_PROJECT_STATE_REGISTERED, replica.id, 2)
