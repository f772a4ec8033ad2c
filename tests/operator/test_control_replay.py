"""Running a controlled receipt's order again, with real controllers on the real model."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from pathlib import Path

import pytest
import pytest_asyncio

import aos
from aos.errors import ControllerNotFound
from aos.operator.controllers import TIMEOUT, ControlSession
from aos.operator.model import Model
from aos.operator.replay import replay, replay_on
from aos.operator.steering import Open, Steering, opening
from aos.operator.wasm_programs import Controllers
from aos.settings import bundled_model
from aos.testing.controlled import STOP, Answer, Instance, ScriptedControl, WanderingModel, draw, fail
from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.v1.types_pb2 import Control, Determinism, Order, Sampling
from aos.verification.receipts import check_bundle
from tests.operator.steered import bundle, controlled
from tests.operator.wat import controller

JSCTRL = (Path(aos.__file__).parent / "controllers" / "jsctrl.wasm").read_bytes()
ANSWER = """
async function main() {
    await $`Ultimate answer is to the life, universe and everything is `
    await gen({ regex: /\\d\\d/, storeVar: "answer" })
}
start(main)
"""
FORKS = """
async function main() {
    await $`The network`
    const id = await fork(3)
    await gen({ regex: / [a-z]+ [a-z]+/, storeVar: "v" + id, maxTokens: 12 })
    await $`.`
}
start(main)
"""
LOOP = controller(mid="(loop $again (br $again))")


@pytest.fixture(scope="module")
def controllers(tmp_path_factory: pytest.TempPathFactory) -> Generator[Controllers]:
    opened = Controllers(tmp_path_factory.mktemp("compiled"))
    yield opened
    opened.close()


def reading(*modules: bytes) -> Callable[[bytes], Awaitable[bytes]]:
    """Return what has these modules."""
    known = {hashlib.sha256(one).digest(): one for one in modules}

    async def read(digest: bytes) -> bytes:
        if digest not in known:
            raise ControllerNotFound(f"controllers/{digest.hex()}")
        return known[digest]

    return read


@pytest_asyncio.fixture
async def opened(controllers: Controllers) -> AsyncGenerator[Open]:
    """What opens controllers for whoever runs an order again."""
    yield opening(reading(JSCTRL, LOOP), controllers, patience=100.0)


@pytest.fixture
def steering(controllers: Controllers) -> Steering:
    """An operator's."""
    return Steering(opening(reading(JSCTRL, LOOP), controllers))


def scripted(argument: str, module: bytes = JSCTRL, *, prompt: str = "", **sampling) -> Order:
    control = Control(controller=hashlib.sha256(module).digest(), argument=argument)
    return Order(
        model="m", prompt=prompt, control=control, sampling=Sampling(**sampling), determinism=Determinism.DETERMINISM_EXACT
    )


class TestReal:
    @pytest.mark.parametrize(
        "order",
        [scripted(ANSWER), scripted(FORKS, temperature=1.2, seed=4, max_tokens=40), scripted(FORKS, prompt="AI.", max_tokens=9)],
        ids=["answer", "forks", "cut"],
    )
    async def test_same(self, demo, steering: Steering, opened: Open, order: Order):
        """A controlled answer holds by itself, and is given again, bit by bit, from weights, module and order."""
        made = await bundle(demo, order, steering)
        finding = await replay(made, bundled_model(), opened=opened)

        assert [one for one in check_bundle(made) if one.good is False] == []
        assert finding.good, finding.why
        assert "are the same" in finding.what

    async def test_as_documented(self, demo, steering: Steering):
        """The documented example runs as written, and counts as documented."""
        made = await bundle(demo, scripted(ANSWER), steering)
        *_, digits = made.output.rpartition(" ")

        assert made.output.startswith("Ultimate answer is to the life, universe and everything is ")
        assert len(digits) == 2
        assert digits.isdecimal()
        assert made.receipt.usage.completion_tokens == made.trace.run[-1].sampled_tokens
        assert [write.value for step in made.trace.run for one in step.branches for write in one.writes] == [digits.encode()]

    async def test_loop(self, demo, steering: Steering, opened: Open):
        """A controller that never answers is a failure that nobody can run again, and the receipt says so."""
        made = await bundle(demo, scripted("", LOOP, prompt="AI"), steering)
        finding = await replay(made, bundled_model(), opened=opened)

        assert made.trace.run[0].branches[0].timed_out
        assert [one for one in check_bundle(made) if one.good is False] == []
        assert finding.good is None
        assert "too long" in finding.why


class TestMissing:
    async def test_no_controllers(self, demo, steering: Steering):
        """Without anything to run controllers with, nothing is claimed."""
        finding = await replay_on(await bundle(demo, scripted(ANSWER), steering), demo)

        assert finding.good is None
        assert hashlib.sha256(JSCTRL).hexdigest() in finding.why

    async def test_no_module(self, demo, steering: Steering, controllers: Controllers, tmp_path: Path):
        """Without the module, nothing is claimed."""
        made = await bundle(demo, scripted(ANSWER), steering)
        other = Controllers(tmp_path)
        finding = await replay_on(made, demo, opening(reading(), other))
        other.close()

        assert finding.good is None
        assert "not checked" in finding.why


def wandering(it: Instance) -> Answer:
    if it.asked == 2:
        return [draw(), draw()]
    return draw() if it.asked < 7 else STOP


def slow(it: Instance) -> Answer:
    """What branch 1 does in its third round takes too long."""
    return fail(TIMEOUT) if it.index == 1 and it.asked == 4 else wandering(it)


class TestFound:
    async def made(self, script=wandering) -> tuple[ReceiptBundle, WanderingModel]:
        model = WanderingModel(slots=4)
        made = await bundle(model, controlled(temperature=1.0, seed=8), Steering(ScriptedControl(script).opened))
        return made, model

    async def test_another_controller(self):
        """An answer that another controller steered is found, with the round."""
        made, model = await self.made()
        other = ScriptedControl(lambda it: STOP if it.asked == 5 else wandering(it))
        finding = await replay_on(made, model, other.opened)

        assert finding.good is False
        assert "there" in finding.why or "round 4" in finding.why

    async def test_another_draw(self):
        """A token that was not drawn as the seed has it is found."""
        made, model = await self.made()
        made.order.sampling.seed = 9
        finding = await replay_on(made, model, ScriptedControl(wandering).opened)

        assert finding.good is False

    async def test_timeout_is_not_timed(self):
        """A branch that took too long is not asked again from there on, and the rest of the run is the same."""
        made, model = await self.made(slow)
        asked = ScriptedControl(wandering)
        finding = await replay_on(made, model, asked.opened)

        assert finding.good, finding.why
        assert max(told for step in asked.told for told, _, _ in step) == 1
        assert any(one.timed_out for step in made.trace.run for one in step.branches)

    async def test_timeout_and_a_difference(self):
        """Where a controller took too long, a difference proves nothing: what it had done by then is unknown."""
        made, model = await self.made(slow)
        finding = await replay_on(made, model, ScriptedControl(lambda it: STOP if it.asked == 6 else wandering(it)).opened)

        assert finding.good is None
        assert "too long" in finding.why

    async def test_best_effort(self):
        """Where bits prove nothing, the logits behind the same tokens are compared."""
        made, model = await self.made()
        made.order.sampling.seed = 9
        model.exact = False

        async def anew(control: Control, of: Model) -> ControlSession:
            return await ScriptedControl(wandering).opened(control, of)

        finding = await replay_on(made, model, anew)

        assert finding.good is None
        assert "within 2.0 of each logit" in finding.what
