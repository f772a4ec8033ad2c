"""Models and engines for the operator's tests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator

import pytest
import pytest_asyncio

from aos.operator.engine import Engine
from aos.operator.llama import LlamaModel, load
from aos.settings import bundled_model
from aos.testing.scripted import ScriptedModel
from aos.verification.keys import OperatorKey
from tests.operator.wasm_runs import Runs


@pytest.fixture(scope="session")
def demo() -> Generator[LlamaModel]:
    """The bundled model, on the real llama.cpp."""
    model = load(bundled_model(), slots=8)
    yield model
    model.close()


@pytest_asyncio.fixture
async def real(demo: LlamaModel) -> AsyncGenerator[Engine]:
    async with Engine("m", demo) as engine:
        yield engine


@pytest.fixture
def script() -> ScriptedModel:
    return ScriptedModel("It is ", "mathematics.")


@pytest_asyncio.fixture
async def engine(script: ScriptedModel) -> AsyncGenerator[Engine]:
    async with Engine("m", script) as engine:
        yield engine


@pytest.fixture(scope="session")
def key() -> OperatorKey:
    return OperatorKey.create()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Generator[Runs]:
    """Runs of controllers on the real wasmtime."""
    opened = Runs(tmp_path_factory.mktemp("compiled"))
    yield opened
    opened.close()
