"""Settings of services: where they come from, which goes first, and what is refused."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from aos.serving.descriptions import descriptions
from aos.serving.reading import MISSING, SettingError, check_tables, read_settings, settings_of
from aos.serving.settings import (
    PROCESSES,
    BrokerProcess,
    DispatcherProcess,
    GatewayProcess,
    OperatorProcess,
    RegistryProcess,
)
from aos.serving.targets import target
from aos.verification.vrf import Suite

TOKENS = {"admin_token": "the-administrators-token", "service_token": "the-services-own-token"}
DISPATCHER = {"database": "aos.db", "registry": "r:1", "broker": "b:1", "blobs": "blobs", "modules": "modules"}


def dispatcher(*, file=None, environment=None, flags=None) -> DispatcherProcess:
    tables = {"shared": TOKENS, "dispatcher": DISPATCHER | (file or {})}
    return read_settings(
        DispatcherProcess,
        "dispatcher",
        file=tables,
        path="aos.toml",
        environment=environment or {},
        flags=flags or {},
        others=PROCESSES.values(),
    )


def gateway(**table) -> GatewayProcess:
    given = {"dispatchers": "d:1", "registry": "r:1", "broker": "b:1", "answers_key": "key"} | table
    file = {"shared": TOKENS, "gateway": given}
    return read_settings(GatewayProcess, "gateway", file=file, path="aos.toml", environment={}, flags={})


class TestOrder:
    def test_flags_go_before_the_environment_and_that_before_the_file(self):
        """The nearer to the command a setting is given, the more it counts; what nobody gives is the default."""
        file = {"grace": 1, "notice": 1.5, "limits": {"queue_jobs": 1, "project_jobs": 1}}
        environment = {"AOS_DISPATCHER_NOTICE": "2", "AOS_DISPATCHER_LIMITS_QUEUE_JOBS": "2", "PATH": "/bin"}
        found = dispatcher(file=file, environment=environment, flags={"limits.queue_jobs": "3"})
        assert (found.grace, found.notice, found.limits.queue_jobs, found.limits.project_jobs) == (1.0, 2.0, 3, 1)
        assert found.limits.max_attempts == 5

    def test_what_services_share_is_said_once(self):
        """The table and the prefix `shared` are for all; a service's own goes before, the environment before the file."""
        found = dispatcher(
            environment={"AOS_SHARED_ADMIN_TOKEN": "from-the-environment", "AOS_SHARED_GRACE": "3"}, file={"grace": 4}
        )
        assert (found.admin_token, found.service_token) == ("from-the-environment", TOKENS["service_token"])
        assert found.grace == 3

    def test_others_settings_may_be_shared_too(self):
        """A file is for all services: one passes over what is shared and not its own."""
        tables = {"shared": TOKENS | {"dispatchers": "d:1", "database": "x.db"}, "dispatcher": {"nothing": "of ours"}}
        found = read_settings(
            BrokerProcess, "broker", file=tables, path="f", environment={}, flags={}, others=list(PROCESSES.values())
        )
        assert (found.dispatchers, found.database) == ("d:1", "x.db")


class TestKinds:
    def test_texts_become_values(self):
        """Numbers, words, paths, lists, networks and choices are read from the environment as from a file."""
        found = dispatcher(
            file={"listen": ["10.0.0.1:1", "unix:/a"]},
            environment={"AOS_DISPATCHER_LIMITS_VRF_SUITE": "draft04", "AOS_DISPATCHER_TEE_POLICY": "policy.json"},
        )
        assert (found.listen, found.blobs, found.tee_policy) == (("10.0.0.1:1", "unix:/a"), Path("blobs"), Path("policy.json"))
        assert found.limits.vrf_suite is Suite.DRAFT04
        assert gateway(picture_networks=["10.0.0.0/8"]).picture_networks == (IPv4Network("10.0.0.0/8"),)
        operator = read_settings(
            OperatorProcess,
            "operator",
            file={},
            path="",
            environment={},
            flags={"connect": "e:1", "key": "k", "tensor_split": "1, 0.5"},
        )
        assert operator.tensor_split == (1.0, 0.5)


class TestRefused:
    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"file": {"qeue": 1}}, "aos.toml: [dispatcher] qeue: there is no such setting"),
            ({"file": {"limits": {"qeue_jobs": 1}}}, "aos.toml: [dispatcher] limits.qeue_jobs: there is no such setting"),
            ({"environment": {"AOS_DISPATCHER_QEUE": "1"}}, "AOS_DISPATCHER_QEUE: there is no such setting"),
            ({"environment": {"AOS_SHARED_QEUE": "1"}}, "AOS_SHARED_QEUE: there is no such setting"),
            ({"file": {"grace": "1"}}, "aos.toml: [dispatcher] grace: must be a number, not '1'"),
            ({"file": {"limits": {"queue_jobs": 1.5}}}, "limits.queue_jobs: must be an integer, not 1.5"),
            ({"file": {"limits": {"queue_jobs": True}}}, "limits.queue_jobs: must be an integer, not True"),
            ({"file": {"listen": "a:1"}}, "listen: must be an array of strings, not 'a:1'"),
            ({"environment": {"AOS_DISPATCHER_GRACE": "soon"}}, "AOS_DISPATCHER_GRACE: must be a number, not 'soon'"),
            ({"environment": {"AOS_DISPATCHER_GRACE": "nan"}}, "AOS_DISPATCHER_GRACE: must be a finite number, not 'nan'"),
            ({"flags": {"limits.vrf_suite": "x"}}, "--limits-vrf-suite: must be one of rfc9381, draft04, not 'x'"),
            ({"flags": {"grace": "3601"}}, "--grace: grace: must be from 0 to 3600, not 3601"),
            ({"flags": {"limits.queue_jobs": "0"}}, "--limits-queue-jobs: dispatcher setting queue_jobs must be above 0, not 0"),
            (
                {"flags": {"listen": "here"}},
                "--listen: listen: must be host:port, with a port up to 65535, or unix:/path, not 'here'",
            ),
            ({"flags": {"listen": "a:65536"}}, "with a port up to 65535"),
            ({"flags": {"registry": "a:1,b:1"}}, "must all be IP addresses or all unix sockets, in 'a:1,b:1'"),
            ({"flags": {"registry": "unix:/a,1.1.1.1:1"}}, "must all be IP addresses or all unix sockets"),
            ({"flags": {"database": "mysql://db"}}, "database: must be a path or a postgresql:// URL, not a mysql:// one"),
            ({"flags": {"blobs": "x" * 4097}}, "--blobs: must have at most 4096 characters, not 4097"),
            ({"flags": {"listen": ",".join(["a:1"] * 9)}}, "listen: must be 1 to 8 addresses, not 9"),
        ],
    )
    def test_the_message_says_where_what_and_the_limit(self, given, words):
        """A key that is not there, or a value that cannot be, stops the start; nothing becomes a default."""
        with pytest.raises(SettingError) as caught:
            dispatcher(**given)
        assert words in str(caught.value)

    def test_what_is_needed_is_asked_for(self):
        """The message names the three ways to give it; a secret has no flag."""
        with pytest.raises(SettingError, match=r"admin_token: is needed; give it as AOS_BROKER_ADMIN_TOKEN, no flag, or"):
            read_settings(BrokerProcess, "broker", file={}, path="", environment={}, flags={})

    def test_tables_that_are_nobodys(self):
        """A misspelt table is refused, and so is what should be one."""
        with pytest.raises(SettingError, match=r"f: dispacher: there is no such table; there are shared, dispatcher"):
            check_tables({"dispacher": {}}, "f", PROCESSES)
        with pytest.raises(SettingError, match=r"f: broker: must be a table"):
            check_tables({"broker": 1}, "f", PROCESSES)

    def test_only_a_network_on_one_machine_goes_without_proofs(self):
        """What `aos up --dev` lets in is not let in by services that others reach."""
        with pytest.raises(SettingError, match=r"unsigned: is for a network on one machine only"):
            read_settings(
                RegistryProcess,
                "registry",
                file={"shared": TOKENS, "registry": {"database": "d", "dispatchers": "d:1", "limits": {"unsigned": True}}},
                path="f",
                environment={},
                flags={},
            )


class TestSecrets:
    def test_no_flag_sets_one(self):
        """Every user of a machine can read a command line, so tokens come from the environment or a file."""
        flags = {one.flag for kind in PROCESSES.values() for one in settings_of(kind) if one.name.endswith("token")}
        assert flags == {""}

    def test_a_password_in_a_url_is_no_flag_either(self):
        """A URL without one may be; the message does not repeat it."""
        assert dispatcher(flags={"database": "postgresql://me@db/aos"}).database == "postgresql://me@db/aos"
        with pytest.raises(SettingError) as caught:
            dispatcher(flags={"database": "postgresql://me:hunter2@db/aos"})
        assert "AOS_DISPATCHER_DATABASE" in str(caught.value)
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize(
        "wrong",
        [{"admin_token": "short"}, {"admin_token": "with a space in its middle"}, {"service_token": TOKENS["admin_token"]}],
    )
    def test_neither_messages_nor_logs_show_one(self, wrong):
        """Refusing one names it, not its value; and settings that are printed leave secrets out."""
        with pytest.raises(SettingError) as caught:
            gateway(**wrong)
        assert not any(value in str(caught.value) for value in wrong.values())
        shown = repr(dispatcher(environment={"AOS_DISPATCHER_DATABASE": "postgresql://me:hunter2@db/aos"}))
        assert not any(secret in shown for secret in (*TOKENS.values(), "hunter2"))


class TestDescriptions:
    @pytest.mark.parametrize("service", PROCESSES)
    def test_every_setting_says_what_it_is(self, service):
        """No setting is without its sentence, but the widths that go by their table's."""
        kind = PROCESSES[service]
        silent = {one.name for one in settings_of(kind) if not descriptions(kind)[one.name]}
        assert {name.split(".")[-1].partition("_")[0] for name in silent} <= {"suspicion", "malicious"}

    @pytest.mark.parametrize("service", PROCESSES)
    def test_names_are_one_of_a_kind(self, service):
        """No two settings have the same flag or variable."""
        every = settings_of(PROCESSES[service])
        assert len({one.variable(service) for one in every}) == len(every)
        assert any(one.default is MISSING for one in every)


class TestTargets:
    @pytest.mark.parametrize(
        ("address", "wanted"),
        [
            ("name:7001", "name:7001"),
            ("unix:/a", "unix:/a"),
            ("unix:/a, unix:/b", "unix:/a,/b"),
            ("10.0.0.1:1,10.0.0.2:2", "ipv4:10.0.0.1:1,10.0.0.2:2"),
            ("[::1]:1,[::2]:2", "ipv6:[::1]:1,[::2]:2"),
        ],
    )
    def test_are_as_grpc_takes_them(self, address, wanted):
        """Several addresses of one kind are one target."""
        assert target(address) == wanted
