"""The real runtime, with the controllers of the package."""

from __future__ import annotations

import pytest

from aos.operator.wasm_programs import Controllers
from tests.controllers.driving import Stage


@pytest.fixture(scope="session")
def stage(tmp_path_factory):
    controllers = Controllers(tmp_path_factory.mktemp("compiled"))
    yield Stage(controllers)
    controllers.close()
