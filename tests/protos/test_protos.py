"""The API as it is written: style, compatibility, committed code, and where REST finds each method."""

from __future__ import annotations

import re
from itertools import combinations

from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor

from aos.v1 import broker_pb2, controllers_pb2, dispatcher_pb2, operator_pb2, registry_pb2, requests_pb2
from gateway.v1 import ai_projects_pb2, aici_pb2, jobs_pb2, metrics_pb2, models_pb2, operators_pb2, projects_pb2, zerog_pb2
from tools import protos

MODULES = (
    broker_pb2,
    controllers_pb2,
    dispatcher_pb2,
    operator_pb2,
    registry_pb2,
    requests_pb2,
    zerog_pb2,
    jobs_pb2,
    metrics_pb2,
    models_pb2,
    operators_pb2,
    projects_pb2,
    ai_projects_pb2,
    aici_pb2,
)

ROUTES = {
    ("POST", "/api/job/detail", "gateway.v1.Jobs.GetJobDetail"),
    ("POST", "/api/job/result", "gateway.v1.Jobs.GetJobResults"),
    ("POST", "/api/job/submit", "gateway.v1.Jobs.SubmitJob"),
    ("POST", "/api/job/verify", "gateway.v1.Jobs.GetUserResults"),
    ("POST", "/api/operator/register", "gateway.v1.Operators.RegisterOperator"),
    ("POST", "/api/operator/info", "gateway.v1.Operators.GetOperatorInfo"),
    ("POST", "/api/admin/project/register", "gateway.v1.Projects.RegisterProject"),
    ("POST", "/api/admin/project/list", "gateway.v1.Projects.ListProjects"),
    ("POST", "/api/v0/ai/project/register", "gateway.v1.AiProjects.RegisterAiProject"),
    ("POST", "/api/v0/ai/project/unregister", "gateway.v1.AiProjects.UnregisterAiProject"),
    ("POST", "/v1/chat/completions", "gateway.v1.Models.CreateChatCompletion"),
    ("POST", "/v1/completions", "gateway.v1.Models.CreateCompletion"),
    ("POST", "/v1/embeddings", "gateway.v1.Models.CreateEmbeddings"),
    ("POST", "/v1/controllers", "gateway.v1.Aici.CreateController"),
    ("POST", "/**/v1/controllers", "gateway.v1.Aici.CreateController"),
    ("POST", "/v1/controllers/tags", "gateway.v1.Aici.TagController"),
    ("POST", "/**/v1/controllers/tags", "gateway.v1.Aici.TagController"),
    ("GET", "/v1/controllers/tags", "gateway.v1.Aici.ListControllers"),
    ("GET", "/**/v1/controllers/tags", "gateway.v1.Aici.ListControllers"),
    ("POST", "/v1/run", "gateway.v1.Aici.RunController"),
    ("POST", "/**/v1/run", "gateway.v1.Aici.RunController"),
    ("POST", "/v1/proxy/chat/completions", "gateway.v1.Zerog.CreateProxyCompletion"),
    ("POST", "/v1/proxy/{service}/chat/completions", "gateway.v1.Zerog.CreateProxyCompletion"),
    ("GET", "/v1/proxy/signature/{chat}", "gateway.v1.Zerog.GetChatSignature"),
    ("POST", "/v1/ledger:authorize", "aos.v1.Requests.AuthorizeWallet"),
    ("POST", "/v1/ledger:revoke", "aos.v1.Requests.RevokeWallet"),
    ("GET", "/v1/ledger:wallets", "aos.v1.Requests.ListWallets"),
    ("GET", "/v1/ledger:domain", "aos.v1.Requests.GetRequestDomain"),
    ("GET", "/metrics", "gateway.v1.Metrics.GetMetrics"),
    ("GET", "/v1/models", "gateway.v1.Models.ListModels"),
    ("GET", "/v1/models/{model=**}", "gateway.v1.Models.GetModel"),
    ("GET", "/v1/{name=projects/*}", "aos.v1.Dispatcher.GetProject"),
    ("POST", "/v1/{name=projects/*}:setLimits", "aos.v1.Dispatcher.SetProjectLimits"),
    ("GET", "/v1/jobs", "aos.v1.Dispatcher.ListJobs"),
    ("POST", "/v1/jobs", "aos.v1.Dispatcher.CreateJob"),
    ("GET", "/v1/{name=jobs/*}", "aos.v1.Dispatcher.GetJob"),
    ("GET", "/v1/{name=jobs/*}/receipt", "aos.v1.Dispatcher.GetReceipt"),
    ("GET", "/v1/{name=jobs/*}/results", "aos.v1.Dispatcher.ListResults"),
    ("GET", "/v1/{name=jobs/*}:watch", "aos.v1.Dispatcher.WatchJob"),
    ("GET", "/v1/{name=jobs/*}:explain", "aos.v1.Dispatcher.ExplainJob"),
    ("POST", "/v1/{name=jobs/*}:cancel", "aos.v1.Dispatcher.CancelJob"),
    ("GET", "/v1/{name=accounts/*}", "aos.v1.Broker.GetAccount"),
    ("GET", "/v1/ledger", "aos.v1.Broker.GetLedger"),
    ("POST", "/v1/ledger", "aos.v1.Broker.AddLedger"),
    ("GET", "/v1/ledgers", "aos.v1.Broker.ListLedgers"),
    ("POST", "/v1/ledger:deposit", "aos.v1.Broker.Deposit"),
    ("POST", "/v1/ledger:refund", "aos.v1.Broker.Refund"),
    ("POST", "/v1/ledger:transfer", "aos.v1.Broker.TransferFund"),
    ("POST", "/v1/ledger:retrieve", "aos.v1.Broker.RetrieveFund"),
    ("POST", "/v1/ledger:delete", "aos.v1.Broker.DeleteLedger"),
    ("POST", "/v1/ledger:acknowledge", "aos.v1.Broker.AcknowledgeSigner"),
    ("GET", "/v1/ledger/accounts/{service}/{provider}", "aos.v1.Broker.GetSubAccount"),
    ("GET", "/v1/ledger:statement", "aos.v1.Broker.GetStatement"),
    ("GET", "/v1/ledger:statements", "aos.v1.Broker.ListStatements"),
    ("GET", "/v1/ledger:check", "aos.v1.Broker.CheckInvariants"),
    ("POST", "/v1/ledger:settle", "aos.v1.Broker.SealSettlement"),
    ("GET", "/v1/ledger:settlements", "aos.v1.Broker.ListSettlements"),
    ("GET", "/v1/ledger:chain", "aos.v1.Broker.GetChain"),
    ("POST", "/v1/ledger:bindPayer", "aos.v1.Broker.BindPayer"),
    ("POST", "/v1/ledger:unbindPayer", "aos.v1.Broker.UnbindPayer"),
    ("GET", "/v1/ledger/{name=receipts/*}", "aos.v1.Broker.GetPaidReceipt"),
}
"""Where REST callers find what. A line may be added; changing one breaks somebody."""


def methods() -> list[MethodDescriptor]:
    return [method for module in MODULES for service in module.DESCRIPTOR.services_by_name.values() for method in service.methods]


def routes() -> list[tuple[str, str, str]]:
    """Verb, path and method of every REST binding, the additional ones too."""
    found = []
    for method in methods():
        rule = method.GetOptions().Extensions[annotations_pb2.http]
        for binding in (rule, *rule.additional_bindings):
            verb = binding.WhichOneof("pattern")
            if verb:
                path = getattr(binding, verb)
                found.append((verb.upper(), path if isinstance(path, str) else path.path, method.full_name))
    return found


def sample(path: str) -> str:
    """A URL path that the template takes: each variable in its narrowest form."""
    return re.sub(r"\{[^=}]+=([^}]*)\}", r"\1", path).replace("**", "some").replace("*", "some")


def pattern(path: str) -> re.Pattern[str]:
    """The URL paths that the template takes, as Envoy reads it: `*` is one segment, `**` any number."""
    plain = re.sub(r"\{[^=}]+=([^}]*)\}", r"\1", path)
    escaped = re.escape(plain).replace(r"\*\*", ".+").replace(r"\*", "[^/:]+")
    return re.compile(escaped)


class TestStyle:
    def test_lint(self):
        """buf finds nothing to blame: names, comments on everything, packages in their folders."""
        result = protos.buf("lint")
        assert result.returncode == 0, result.stdout + result.stderr

    def test_format(self):
        """The files are as buf would write them."""
        result = protos.buf("format", "--diff", "--exit-code", "protos")
        assert result.returncode == 0, result.stdout + result.stderr

    def test_every_comment_ends(self):
        """Comments are sentences: the last line of each ends with a full stop or a colon."""
        unended = []
        for path in sorted(protos.PROTOS.rglob("*.proto")):
            lines = [line.strip() for line in path.read_text().splitlines()]
            for number, (line, following) in enumerate(zip(lines, [*lines[1:], ""], strict=True), 1):
                if line.startswith("//") and not following.startswith("//") and not line.endswith((".", ":", ".)")):
                    unended.append(f"{path.name}:{number}: {line}")
        assert unended == []


class TestCompatibility:
    def test_nothing_released_is_broken(self):
        """Against the last released API, on the wire and in JSON."""
        result = protos.breaking()
        assert result.returncode == 0, result.stdout + result.stderr

    def test_a_break_would_be_found(self, tmp_path):
        """The comparison can fail: an API in which a count was text is not compatible with ours."""
        source = tmp_path / "aos" / "v1"
        source.mkdir(parents=True)
        other = 'syntax = "proto3";\npackage aos.v1;\nmessage Usage {\n  string prompt_tokens = 1;\n}\n'
        (source / "types.proto").write_text(other)
        image = tmp_path / "before.binpb"
        built = protos.buf("build", str(tmp_path), "-o", str(image))
        assert built.returncode == 0, built.stderr
        result = protos.buf("breaking", "protos", "--against", str(image))

        assert result.returncode != 0
        assert "prompt_tokens" in result.stdout

    def test_committed_code_is_what_the_protos_give(self):
        """Generating again changes no file."""
        assert protos.differences() == []


class TestRoutes:
    def test_they_are_where_they_were(self):
        """Every REST path, verb and method."""
        assert set(routes()) == ROUTES
        assert len(routes()) == len(ROUTES)

    def test_no_two_methods_share_a_path(self):
        """No request can be meant for two methods."""
        clashes = [
            (one, two)
            for one, two in combinations(routes(), 2)
            if one[0] == two[0] and (pattern(one[1]).fullmatch(sample(two[1])) or pattern(two[1]).fullmatch(sample(one[1])))
        ]
        assert clashes == []
