"""The status page where a token is asked for."""

from __future__ import annotations

import pytest
import pytest_asyncio
from playwright.async_api import Page, Request, expect

from aos.clock import SystemClock
from aos.testing.harness import running_aos
from aos.testing.scripted import ScriptedModel
from aos.v1.broker_pb2 import DepositRequest
from aos.v1.dispatcher_pb2 import CreateProjectRequest, RotateProjectTokenRequest
from aos.v1.types_pb2 import Order

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEPT = "[JSON.stringify(localStorage), document.cookie, location.href, sessionStorage.getItem('aos-token')]"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network():
    async with running_aos(ScriptedModel("It is mathematics."), envoy=True, clock=SystemClock()) as aos:
        await aos.client.answer(Order(model="scripted", prompt="A secret of demo"))
        yield aos


async def sign_in(page: Page, token: str) -> None:
    await page.get_by_label("Token").fill(token)
    await page.keyboard.press("Enter")


class TestToken:
    async def test_nothing_is_shown_without_one(self, network, viewer):
        """Who has no token is asked for one, and sees nothing of the network, nor does the page ask the network for anything."""
        async with viewer.looking("about:blank") as page:
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url.removeprefix(network.url)))
            await page.goto(network.url)
            await expect(page.get_by_label("Token")).to_be_focused()
            await expect(page.locator("#status")).to_be_hidden()
            assert all(path.startswith(("/status/page/", "data:")) or path in {"", "/"} for path in asked)

    async def test_a_wrong_one(self, network, viewer):
        """A token that nobody holds is refused, in words, and forgotten; one that no header can carry is not even sent."""
        async with viewer.looking(network.url) as page:
            await sign_in(page, "wrong")
            await expect(page.locator("#sign-in-problem")).to_have_text("The network does not know this token.")
            assert await page.evaluate("sessionStorage.length") == 0
            await sign_in(page, "schlüssel")
            await expect(page.locator("#sign-in-problem")).to_contain_text("no letters beyond ASCII")
            await expect(page.locator("#status")).to_be_hidden()
        told, viewer.errors[:] = list(viewer.errors), []
        assert all("401" in one for one in told)

    async def test_a_projects(self, network, viewer):
        """A project's token shows the project's jobs. It goes out as a bearer, and is kept in this tab and nowhere else."""
        async with viewer.looking(network.url) as page:
            sent: list[Request] = []
            page.on("request", lambda request: sent.append(request))  # noqa: PLW0108  # Playwright writes on what it is given
            await sign_in(page, network.token)
            await expect(page.locator("#who")).to_have_text("project demo")
            await expect(page.locator("#jobs")).to_contain_text("A secret of demo")
            assert [await one.header_value("authorization") for one in sent] == [f"Bearer {network.token}"]
            assert await page.evaluate(KEPT) == ["{}", "", f"{network.url}/", network.token]
            await page.reload()
            await expect(page.locator("#jobs")).to_contain_text("A secret of demo")
            await page.get_by_role("button", name="Sign out").click()
            await expect(page.get_by_label("Token")).to_be_focused()
            assert await page.evaluate("sessionStorage.length") == 0
            await expect(page.locator("#jobs")).not_to_contain_text("A secret of demo")

    async def test_another_projects(self, network, viewer):
        """What one project asked, another does not see."""
        made = await network.admin.dispatcher.CreateProject(CreateProjectRequest())
        async with viewer.looking(network.url) as page:
            await sign_in(page, made.token)
            await expect(page.locator("#jobs-empty")).to_be_visible()
            await expect(page.locator("#models .name")).to_have_text("scripted")
            await expect(page.locator("#figure-money-of")).to_have_text("neurons; 0 neurons held")

    async def test_the_administrators(self, network, viewer):
        """The administrator sees all jobs with their projects, and that all money adds up; it hands no jobs in."""
        await network.admin.broker.Deposit(DepositRequest(account="accounts/other", amount=str(5 * 10**18), request_id="more"))
        async with viewer.looking(network.url) as page:
            await sign_in(page, network.admin_token)
            await expect(page.locator("#who")).to_have_text("administrator")
            await expect(page.locator("#jobs tbody tr").first).to_contain_text("scripted · demo")
            await expect(page.locator("#ledger")).to_contain_text("Deposited6 coins")
            await expect(page.locator("#ledger-sum")).to_have_text("What was deposited is what is there.")
            await expect(page.get_by_role("button", name="Send")).to_be_disabled()
            await expect(page.locator("#ask-problem")).to_have_text("Jobs are handed in with a project's token.")

    async def test_one_that_is_replaced_meanwhile(self, network, viewer):
        """Once the token is rotated, a page that shows things with the old one shows them no more, and asks for the new one."""
        made = await network.admin.dispatcher.CreateProject(CreateProjectRequest(project_id="rotated"))
        async with viewer.looking(network.url) as page:
            await sign_in(page, made.token)
            await expect(page.locator("#who")).to_have_text("project rotated")
            await network.admin.dispatcher.RotateProjectToken(RotateProjectTokenRequest(name="projects/rotated"))
            await expect(page.locator("#sign-in-problem")).to_have_text("The network does not know this token.")
            await expect(page.locator("#status")).to_be_hidden()
        told, viewer.errors[:] = list(viewer.errors), []
        assert all("401" in one for one in told)
