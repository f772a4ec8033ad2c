"""What the network does for its operators after a settlement: it claims, and answers disputes."""

from __future__ import annotations

import logging

from aos.broker.chain import Progress
from aos.chain.serving import Batch, Line
from tests.chain.shop import OTHER, PAYER, PROVIDER, a_key, fund, left, open_shop

WINDOW, ANSWER, BOND = 51, 6 * 3600 + 1, 10**15


def words(batch):
    """The batch as the contract takes it; all of it paid."""
    lines = tuple(Line(one.user, one.root, one.total, one.count) for one in batch.lines)
    return Batch(PROVIDER, PROVIDER, batch.nonce, batch.closes_at, (1 << len(lines)) - 1, lines).words()


async def dispute(deployment, shop, name: str) -> None:
    """The payer's wallet has a receipt shown."""
    proof, price = (await shop.paid(name)).chain, int((await shop.paid(name)).price)
    [batch] = [one for one in await shop.batches() if one.identity == proof.batch.hex()]
    leaf = (proof.leaf, bytes.fromhex(name.removeprefix("receipts/")), price)
    siblings = [(one[:32], int.from_bytes(one[32:], "big")) for one in proof.proof]
    call = deployment.inference._contract.functions.disputeReceipt(words(batch), proof.line, leaf, siblings)
    await deployment.sender(PAYER).send(f"dispute {name}", call, value=BOND)


async def demand(deployment, shop, name: str) -> None:
    """The payer's wallet asks for a receipt by its index."""
    proof = (await shop.paid(name)).chain
    [batch] = [one for one in await shop.batches() if one.identity == proof.batch.hex()]
    call = deployment.inference._contract.functions.demandReceipt(words(batch), proof.line, proof.leaf)
    await deployment.sender(PAYER).send(f"demand {name}", call, value=BOND)


async def earned(deployment) -> int:
    return await deployment.inference.withdrawable(PROVIDER)


async def sent(deployment) -> int:
    """How many transactions the settler sent."""
    return len(list((deployment.folder / "outbox").glob("*.json")))


async def again(deployment, shop) -> None:
    """A later round."""
    await deployment.advance(61)
    await shop.settlement.round()
    await shop.duties.round()


class TestClaims:
    async def test_after_the_window(self, deployment, shop):
        """What a batch charged is the operator's to withdraw once its window is over, without anybody asking, once."""
        await shop.pay(10, 20)
        await shop.settlement.round()
        await shop.duties.round()
        assert await earned(deployment) == 0
        await deployment.advance(WINDOW)
        await shop.duties.round()
        assert await earned(deployment) == 30
        before = await sent(deployment)
        await again(deployment, shop)
        await again(deployment, shop)
        assert (await earned(deployment), await sent(deployment)) == (30, before)
        assert list(await shop.duties.store.unclaimed(2**40, 10)) == []

    async def test_by_somebody_else(self, deployment, shop):
        """A batch that another claimed is not claimed again, which would cost a refusal."""
        await shop.pay(10)
        await shop.settlement.round()
        await deployment.advance(WINDOW)
        [batch] = await shop.batches()
        await deployment.sender(7).send("theirs", deployment.inference._contract.functions.claim(words(batch)))
        before = await sent(deployment)
        await again(deployment, shop)
        assert (await earned(deployment), await sent(deployment)) == (10, before)
        assert list(await shop.duties.store.unclaimed(2**40, 10)) == []

    async def test_what_is_disputed_follows(self, deployment, shop):
        """A line that is held back does not keep the others, and is claimed once it is free."""
        await fund(deployment, OTHER, 500)
        await shop.pay(5, account="accounts/q")
        [name] = await shop.serve(10)
        await shop.settlement.round()
        await demand(deployment, shop, name)
        await deployment.advance(WINDOW)
        await shop.duties.round()
        assert await earned(deployment) == 5
        await shop.settlement.round()
        await shop.duties.round()
        assert await earned(deployment) == 5 + BOND
        await again(deployment, shop)
        assert await earned(deployment) == 15 + BOND

    async def test_a_reorganisation_undoes_a_claim(self, deployment, shop):
        """Behind confirmations it is looked up again, and claimed in another transaction if it is gone."""
        await shop.pay(10)
        async with open_shop(deployment.chain, deployment.folder, deployment.addresses, confirmations=2) as careful:
            await deployment.rpc("anvil_mine", 3)
            await careful.settlement.round()
            await deployment.rpc("anvil_mine", 3)
            await careful.settlement.round()
            await deployment.advance(WINDOW)
            await deployment.rpc("anvil_mine", 3)
            before = await deployment.rpc("evm_snapshot")
            await careful.duties.round()
            assert await earned(deployment) == 10
            await deployment.rpc("evm_revert", before)
            assert await earned(deployment) == 0
            await deployment.advance(61)
            await deployment.rpc("anvil_mine", 3)
            await careful.duties.round()
            assert await earned(deployment) == 10

    async def test_a_line_that_was_refused(self, deployment, shop):
        """Of a batch with a refused line the others are claimed."""
        await fund(deployment, OTHER, 50)
        await shop.pay(40, account="accounts/q")
        await shop.pay(10)
        batch = await shop.settlement._next(PROVIDER.lower())
        gone = Line(a_key(OTHER).address, b"\1" * 32, 30, 1)
        await deployment.inference.settle(deployment.sender(6), "x", a_key(3), PROVIDER, [gone], nonce=1, deadline=2**40)
        await shop.settlement._attempt(batch)
        await deployment.advance(WINDOW)
        await shop.duties.round()
        assert await earned(deployment) == 10


class TestAnswers:
    async def test_a_dispute_is_answered(self, deployment, shop):
        """The receipt and what its user signed are shown, so that the fee and the bond are the operator's."""
        names = await shop.serve(10, 20, 30)
        await shop.settlement.round()
        await dispute(deployment, shop, names[1])
        await shop.settlement.round()
        await shop.duties.round()
        await shop.settlement.round()
        assert [(await shop.paid(name)).chain.dispute for name in names] == ["", "answered", ""]
        await deployment.advance(WINDOW)
        await shop.duties.round()
        assert await earned(deployment) == 60 + BOND

    async def test_a_demand_is_answered(self, deployment, shop):
        """A receipt that the user asks for by its index is shown, too."""
        [name] = await shop.serve(10)
        await shop.settlement.round()
        await demand(deployment, shop, name)
        await shop.settlement.round()
        await shop.duties.round()
        await shop.settlement.round()
        assert (await shop.paid(name)).chain.dispute == "answered"

    async def test_after_a_restart(self, deployment, shop):
        """What answers a dispute is on disk."""
        [name] = await shop.serve(10)
        await shop.settlement.round()
        await dispute(deployment, shop, name)
        async with open_shop(deployment.chain, deployment.folder, deployment.addresses) as other:
            await other.settlement.round()
            await other.duties.round()
            await other.settlement.round()
            assert (await other.paid(name)).chain.dispute == "answered"

    async def test_what_nobody_signed_cannot_be_answered(self, deployment, shop, caplog):
        """Jobs of a project's token have no signed request: such a dispute is lost, said once, and the rest is claimed."""
        names = await shop.pay(10, 20)
        await shop.settlement.round()
        await dispute(deployment, shop, names[0])
        with caplog.at_level(logging.ERROR):
            for _ in range(3):
                await again(deployment, shop)
        assert caplog.text.count("is lost: nothing is kept that answers it") == 1
        assert await earned(deployment) == 20
        assert await left(deployment, PAYER) == 970

    async def test_too_late(self, deployment, shop, caplog):
        """After the time to answer nothing is sent any more."""
        [name] = await shop.serve(10)
        await shop.settlement.round()
        await dispute(deployment, shop, name)
        await deployment.advance(ANSWER)
        before = await sent(deployment)
        await shop.settlement.round()
        await shop.duties.round()
        assert "the time to answer is over" in caplog.text
        assert await sent(deployment) == before


class TestKept:
    async def test_until_no_dispute_can_need_it(self, deployment, shop):
        """Requests and receipts are kept until a week after their batch's window, and those that came to nothing a week."""
        await shop.serve(10, 20)
        await shop.serve(30, noted=False)
        await shop.settlement.round()
        await deployment.advance(WINDOW)
        await shop.duties.round()
        await again(deployment, shop)
        assert await kept(shop) == (3, 3)
        await deployment.advance(8 * 86_400)
        await shop.duties.round()
        assert await kept(shop) == (0, 0)

    async def test_while_it_is_not_settled(self, deployment, shop):
        """A receipt that waits for its batch is kept, however long that takes."""
        await shop.serve(10, 2000, max_fee=3000)
        await shop.settlement.round()
        assert [one.lines[0].count for one in await shop.batches(Progress.SETTLED)] == [1]
        await deployment.advance(30 * 86_400)
        for _ in range(3):
            await again(deployment, shop)
        assert await kept(shop) == (1, 1)


async def kept(shop) -> tuple[int, int]:
    """How many signed requests and receipts are kept for disputes."""

    def count(tx, table: str) -> int:
        return tx.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]

    return await shop.store._database.transact(lambda tx: (count(tx, "broker_requests"), count(tx, "broker_bodies")))
