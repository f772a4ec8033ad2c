"""`aos verify` of an answer that a controller steered."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Generator
from pathlib import Path

import pytest
from click.testing import CliRunner
from google.protobuf.json_format import MessageToJson

from aos.cli.verify import verify
from aos.operator.llama import LlamaModel
from aos.operator.steering import Steering, opening
from aos.operator.wasm_programs import Controllers
from aos.settings import bundled_model
from aos.v1.types_pb2 import Control, Determinism, Order, Sampling
from tests.operator.steered import bundle
from tests.operator.wat import NOOP, STOP, controller, splice

SPLICES = controller(
    more="(global $asked (mut i32) (i32.const 0))",
    mid=f"""(global.set $asked (i32.add (global.get $asked) (i32.const 1)))
      (if (i32.eq (global.get $asked) (i32.const 1)) (then {splice(300, 301)} (return)))
      (if (i32.lt_u (global.get $asked) (i32.const 4)) (then {NOOP} (return))) {STOP}""",
)


@pytest.fixture(scope="module")
def controllers(tmp_path_factory: pytest.TempPathFactory) -> Generator[Controllers]:
    opened = Controllers(tmp_path_factory.mktemp("compiled"))
    yield opened
    opened.close()


@pytest.fixture
def receipt(demo: LlamaModel, controllers: Controllers, tmp_path: Path) -> Path:
    """A receipt's file, as `aos receipt` writes it."""

    async def read(_: bytes) -> bytes:
        return SPLICES

    control = Control(controller=hashlib.sha256(SPLICES).digest(), argument="x")
    order = Order(model="m", prompt="AI", control=control, sampling=Sampling(), determinism=Determinism.DETERMINISM_EXACT)
    made = asyncio.run(bundle(demo, order, Steering(opening(read, controllers))))
    path = tmp_path / "receipt.json"
    path.write_text(MessageToJson(made))
    return path


def verified(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(verify, [str(one) for one in arguments], env={"COLUMNS": "400"})
    return result.exit_code, result.output


class TestVerify:
    def test_with_its_module(self, receipt: Path, tmp_path: Path):
        """With weights and module, the answer is given again."""
        module = tmp_path / "controller.wasm"
        module.write_bytes(SPLICES)
        code, said = verified(receipt, "--model", bundled_model(), "--controller", module)

        assert code == 0, said
        assert "✓ the model and the controller give this answer" in said

    def test_without(self, receipt: Path):
        """Without the module, all else is checked, and what was not is said."""
        code, said = verified(receipt, "--model", bundled_model())

        assert code == 0, said
        assert "? the model and the controller give this answer: not checked" in said

    def test_another_module(self, receipt: Path, tmp_path: Path):
        """A module that is another one is not taken for the answer's."""
        module = tmp_path / "controller.wasm"
        module.write_bytes(controller())
        code, said = verified(receipt, "--model", bundled_model(), "--controller", module)

        assert code == 0, said
        assert "not checked" in said

    def test_changed(self, receipt: Path):
        """A receipt whose rounds were changed does not hold."""
        receipt.write_text(receipt.read_text().replace('"ffTokens": ', '"ffTokens": 1'))
        code, said = verified(receipt)

        assert code == 1
        assert "does NOT hold" in said
