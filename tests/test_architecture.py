"""The shape of the source: who may import whom, what pure files do without, what every method must declare."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from aos.rpc.auth import POLICY, access
from aos.v1 import (
    blobs_pb2,
    broker_pb2,
    callbacks_pb2,
    controllers_pb2,
    dispatcher_pb2,
    operator_pb2,
    questions_pb2,
    registry_pb2,
    requests_pb2,
)
from gateway.v1 import (
    ai_projects_pb2,
    aici_pb2,
    images_pb2,
    jobs_pb2,
    metrics_pb2,
    models_pb2,
    operators_pb2,
    opml_pb2,
    pages_pb2,
    projects_pb2,
    zerog_pb2,
)
from tests.shape import DRIVERS, IMPURE_CALLS, IMPURE_MODULES, PURE

ROOT = Path(__file__).resolve().parent.parent
GENERATED = {ROOT / "aos" / "v1", ROOT / "gateway" / "v1"}
SLICES = ("dispatcher", "operator", "registry", "broker")
LINES = 400
"""Most lines of a file: one that answers one question is shorter."""


@cache
def sources() -> dict[str, ast.Module]:
    """Every hand-written module of the product, by its path."""
    found = {}
    for package in ("aos", "gateway"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if not GENERATED & set(path.parents):
                found[path.relative_to(ROOT).as_posix()] = ast.parse(path.read_text())
    return found


def imports(tree: ast.Module, *, path: str) -> Iterator[str]:
    """Every module that is imported, wherever in the file; ``from a import b`` counts as ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def offences(paths: Iterable[str], forbidden) -> list[str]:
    """`path imports module` for each import of these files that is forbidden."""
    return [f"{path} imports {one}" for path in paths for one in imports(sources()[path], path=path) if forbidden(one)]


def below(*prefixes: str) -> list[str]:
    return [path for path in sources() if path.startswith(prefixes)]


class TestSlices:
    @pytest.mark.parametrize("slice_", SLICES)
    def test_they_never_import_each_other(self, slice_):
        """A slice knows the others by their stubs alone."""
        others = [f"aos.{other}" for other in SLICES if other != slice_]
        assert below(f"aos/{slice_}/")
        assert not offences(below(f"aos/{slice_}/"), lambda module: any(within(module, other) for other in others))

    def test_only_assembly_knows_the_store(self):
        """Rules do not know where they are kept: a slice's node.py and serve.py put the two together, a backup copies."""
        nodes = {f"aos/{slice_}/node.py" for slice_ in SLICES}
        assembly = nodes | {"aos/serve.py", "aos/serve_operator.py", "aos/serving/processes.py", "aos/cli/backup.py"}
        others = [path for path in sources() if not path.startswith("aos/store/") and path not in assembly]
        assert not offences(others, lambda module: within(module, "aos.store"))

    def test_stores_know_rules_and_protocols_only(self):
        """A store imports pure files, the protocols that it fulfils, and nothing else of the project."""
        known = {at[:-3].replace("/", ".") for at in PURE} | {f"aos.{one}.store" for one in SLICES} | {"aos.dispatcher.node_store"}

        def forbidden(module: str) -> bool:
            ours = within(module, "aos") or within(module, "gateway")
            return ours and not any(within(module, one) for one in (*known, "aos.store", "aos.v1"))

        assert below("aos/store/")
        assert not offences(below("aos/store/"), forbidden)

    def test_what_all_share_knows_none_of_them(self):
        """Errors, orders, the rpc layer, the verification library and the client import no slice, store or dialect."""
        shared = [path for path in below("aos/rpc/", "aos/verification/", "aos/conformance/") if path in sources()]
        shared += ["aos/errors.py", "aos/order.py", "aos/conversation.py", "aos/nesting.py", "aos/toolcalls.py"]
        shared += ["aos/paging.py", "aos/clock.py", "aos/client.py"]
        above = [*(f"aos.{slice_}" for slice_ in SLICES), "aos.store", "aos.serve", "aos.cli", "gateway"]
        assert not offences(shared, lambda module: any(within(module, one) for one in above))

    def test_dialects_call_the_api_and_nothing_behind_it(self):
        """`gateway` translates: it knows the API, its client, its errors, and libraries of pure code."""
        allowed = (
            "aos.client",
            "aos.clock",
            "aos.controller_names",
            "aos.errors",
            "aos.fetch",
            "aos.nesting",
            "aos.order",
            "aos.paging",
            "aos.picture_order",
            "aos.pictures",
            "aos.rpc",
            "aos.toolcalls",
            "aos.v1",
            "aos.vectors",
            "aos.verification",
        )
        forbidden = lambda module: within(module, "aos") and not any(within(module, one) for one in allowed)  # noqa: E731
        assert below("gateway/")
        assert not offences(below("gateway/"), forbidden)


class TestDrivers:
    @pytest.mark.parametrize("driver", DRIVERS)
    def test_each_has_its_place(self, driver):
        """A third-party driver is imported in one place, so that it can be replaced there."""
        places = DRIVERS[driver]
        using = [path for path, tree in sources().items() if any(within(one, driver) for one in imports(tree, path=path))]
        assert using, f"nothing imports {driver} any more: take it out of this table"
        assert [path for path in using if not path.startswith(places)] == []


class TestPureFiles:
    def test_they_are_there(self):
        """The table names files that exist."""
        assert sorted(path for path in PURE if path not in sources()) == []

    @pytest.mark.parametrize("path", sorted(PURE))
    def test_they_import_nothing_that_acts(self, path):
        """No clock, no I/O, no randomness, no grpc, no driver; and of the project no shell that has them."""
        shells = ("aos.rpc", "aos.store", "aos.client", "aos.serve", "gateway", *(f"aos.{one}.servicer" for one in SLICES))
        acts = (*IMPURE_MODULES, *shells)
        # a pure function that lives beside those who use it
        assert not offences([path], lambda module: module != "aos.rpc.auth.hash_token" and any(within(module, one) for one in acts))

    @pytest.mark.parametrize("path", sorted(PURE))
    def test_they_call_nothing_that_acts(self, path):
        """Time, files and terminals come in as arguments or not at all."""
        names = []
        for node in ast.walk(sources()[path]):
            if isinstance(node, ast.Call):
                named = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                names += [f"{path}:{node.lineno} calls {named}"] if named in IMPURE_CALLS else []
            assert not isinstance(node, ast.AsyncFunctionDef), f"{path}: waiting is acting"
        assert names == []


class TestFiles:
    def test_none_is_long(self):
        """A file answers one question, in at most 400 lines; tests and tools too."""
        files = [*sources(), *(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py"))]
        lengths = {path: len((ROOT / path).read_text().splitlines()) for path in files}
        assert {path: length for path, length in lengths.items() if length > LINES} == {}

    def test_nothing_names_a_machine(self):
        """No tracked file holds a home directory, a workplace's path, or the host of a package registry."""
        # in pieces, so that this file does not hold them
        paths = [f"/{'root'}/", f"/{'home'}/[a-z]", f"/{'Users'}/", f"/{'work'}/(?:main|shared)"]
        hosts = ["py" + r"pi\.org", "python" + r"hosted\.org", "npm" + r"js\.(?:org|com)", "index" + "-url", "crates" + r"\.io"]
        forbidden = re.compile("|".join(paths + hosts).encode())
        assert {name: found[0] for name in tracked() if (found := forbidden.findall((ROOT / name).read_bytes()))} == {}


def tracked() -> list[str]:
    """Files that are or would be committed; in a tree without git, all that are not hidden."""
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False) if (ROOT / ".git").exists() else None
    if listed is None or listed.returncode:
        found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
        return [path.as_posix() for path in found if not any(part.startswith((".", "third_party")) for part in path.parts)]
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


SERVICES = [
    service
    for module in (
        blobs_pb2,
        broker_pb2,
        controllers_pb2,
        dispatcher_pb2,
        operator_pb2,
        registry_pb2,
        images_pb2,
        jobs_pb2,
        metrics_pb2,
        models_pb2,
        operators_pb2,
        opml_pb2,
        pages_pb2,
        projects_pb2,
        ai_projects_pb2,
        aici_pb2,
        questions_pb2,
        callbacks_pb2,
        requests_pb2,
        zerog_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
]


class TestAccess:
    def test_all_services_are_looked_at(self):
        """Every proto file that defines a service is in the table above."""
        defined = {
            name
            for path in (ROOT / "protos").rglob("*.proto")
            for name in re.findall(r"^service (\w+)", path.read_text(), flags=re.MULTILINE)
        }
        assert {service.name for service in SERVICES} == defined

    @pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.full_name)
    def test_every_method_says_who_may_call_it(self, service):
        """A method without a row in POLICY would be refused to everyone."""
        methods = [f"/{service.full_name}/{method.name}" for method in service.methods]
        assert [method for method in methods if access(method) is None] == []

    def test_every_row_is_of_something(self):
        """No row of POLICY outlives its service or method."""
        own = {f"/{service.full_name}/" for service in SERVICES}
        own |= {f"/{service.full_name}/{method.name}" for service in SERVICES for method in service.methods}
        assert {row for row in POLICY if not row.startswith("/grpc.")} <= own
