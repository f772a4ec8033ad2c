"""The receipt view: what holds, what does not, and who says so."""

from __future__ import annotations

import json

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import expect

from aos.clock import SystemClock
from aos.testing.harness import running_aos
from aos.testing.scripted import ScriptedModel
from aos.v1.dispatcher_pb2 import ListJobsRequest
from aos.v1.types_pb2 import Order

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE, GATEWAY, NOBODY = "Checked by this page", "Checked by the gateway", "Not checked"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network():
    async with running_aos(
        ScriptedModel("It is mathematics, über alles ∑."), envoy=True, clock=SystemClock(), open_to_all=True
    ) as aos:
        await aos.client.answer(Order(model="scripted", prompt="What is AI?"))
        yield aos


@pytest_asyncio.fixture(loop_scope="module")
async def receipt(network) -> dict:
    """The job's receipt, as the REST API gives it."""
    job = (await network.dispatcher.ListJobs(ListJobsRequest(page_size=1))).jobs[0]
    async with httpx.AsyncClient(base_url=network.url, timeout=20) as client:
        return (await client.get(f"/v1/{job.name}/receipt")).json()


def group(page, name: str):
    return page.locator("#sheet .group", has=page.get_by_role("heading", name=name, exact=True)).locator(".finding")


async def check(page, bundle: object) -> None:
    """Hand a receipt in from outside."""
    await page.get_by_role("button", name="Check a receipt…").click()
    await page.get_by_role("textbox", name="Receipt as JSON").fill(bundle if isinstance(bundle, str) else json.dumps(bundle))
    await page.get_by_role("button", name="Check this text").click()


class TestAReceiptThatHolds:
    async def test_who_checked_what(self, network, viewer):
        """The page recomputes digests, counts and the price, the gateway the signature and the rest; what nobody did is said."""
        async with viewer.looking(network.url) as page:
            await page.locator("#jobs").get_by_role("button", name="What is AI?").click()
            await expect(page.locator("#sheet .banner")).to_have_text("The receipt holds.")
            await expect(group(page, PAGE)).to_have_count(6)
            await expect(page.locator('#sheet .finding[data-good="false"]')).to_have_count(0)
            await expect(group(page, PAGE).nth(1)).to_contain_text("the answer's text has the digest that was signed")
            await expect(group(page, PAGE).last).to_contain_text(f"operator {network.operators[0].lower()} is registered")
            await expect(page.locator('#sheet .finding[data-good="true"]')).to_have_count(15)
            await expect(group(page, GATEWAY).first).to_contain_text("signed by operator 0x")
            await expect(group(page, NOBODY)).to_contain_text("aos verify --replay")

    async def test_one_from_elsewhere(self, network, viewer, receipt):
        """A receipt that somebody brings, in the names of its JSON form, holds as well."""
        renamed = {"receipt": receipt["receipt"], "order": receipt["order"], "output": receipt["output"], "price": receipt["price"]}
        renamed |= {"outputTokens": receipt["output_tokens"], "trace": receipt["trace"]}
        async with viewer.looking(network.url) as page:
            await check(page, renamed)
            await expect(page.locator("#sheet .banner")).to_have_text("The receipt holds.")


class TestAReceiptThatDoesNot:
    @pytest.mark.parametrize(
        ("change", "by_page", "by_gateway"),
        [
            (lambda it: it.update(output="It is magic."), "the answer's text", "the answer's text"),
            (lambda it: it["output_tokens"].append(7), "the answer's tokens", "the answer's tokens"),
            (lambda it: it["price"].update(completion_token="3"), "the price", "the price"),
            (lambda it: it["receipt"].update(price="1"), "the price", "the operator's signature"),
            (lambda it: it["receipt"].update(issued_at="1"), "", "the operator's signature"),
            (lambda it: it["order"].update(prompt="What is love?"), "", "the request"),
        ],
        ids=["text", "tokens", "rate", "price", "time", "request"],
    )
    async def test_a_changed_one_is_found_out(self, network, viewer, receipt, change, by_page, by_gateway):
        """Whatever was changed, the receipt does not hold, and a finding says what; digests are found out by the page itself."""
        change(receipt)
        async with viewer.looking(network.url) as page:
            await check(page, receipt)
            await expect(page.locator("#sheet .banner")).to_have_text("The receipt does NOT hold.")
            bad = page.locator('[data-good="false"]')
            await expect(group(page, GATEWAY).and_(bad).first).to_contain_text(by_gateway)
            if by_page:
                await expect(group(page, PAGE).and_(bad).first).to_contain_text(by_page)
            else:
                await expect(group(page, PAGE).and_(bad)).to_have_count(0)

    async def test_another_jobs(self, network, viewer, receipt):
        """A receipt that holds, put in the place of a job's own, is found not to be this job's."""
        await network.client.answer(Order(model="scripted", prompt="Another one?"))
        async with viewer.looking(network.url) as page:
            await page.locator("#jobs").get_by_role("button", name="Another one?").first.click()
            await expect(page.locator("#sheet .banner")).to_have_text("The receipt holds.")
            await page.locator("#sheet summary").last.click()
            await page.get_by_role("textbox", name="Receipt as JSON").fill(json.dumps(receipt))
            await page.get_by_role("button", name="Check this text").click()
            await expect(page.locator("#sheet .banner")).to_have_text("The receipt does NOT hold.")
            await expect(group(page, PAGE).and_(page.locator('[data-good="false"]'))).to_contain_text("the receipt is this job's")

    @pytest.mark.parametrize(
        ("text", "said"),
        [("{", "This is not JSON"), ("[]", "but no receipt"), ('"x"', "but no receipt"), ('{"receipt": {}}', "does NOT hold")],
    )
    async def test_what_is_none(self, network, viewer, text, said):
        """What is no receipt is said not to be one, and breaks nothing."""
        async with viewer.looking(network.url) as page:
            await check(page, text)
            await expect(page.locator("#sheet .banner")).to_contain_text(said)
            await expect(page.locator("#sheet .banner")).to_have_attribute("data-good", "false")

    async def test_without_the_gateway(self, network, viewer, receipt):
        """If the gateway cannot check the signature, the page does not say that the receipt holds."""
        async with viewer.looking(network.url) as page:
            await expect(page.locator("#live")).to_contain_text("live")
            await page.context.set_offline(True)
            await check(page, receipt)
            await expect(page.locator("#sheet .banner")).to_contain_text("the gateway did not check the signature")
            await expect(group(page, GATEWAY)).to_have_attribute("data-good", "null")
        told, viewer.errors[:] = list(viewer.errors), []
        assert all("ERR_INTERNET_DISCONNECTED" in one for one in told)
