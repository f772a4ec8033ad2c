"""The status page on an open network: what it shows, live, and that nothing on it is more than text."""

from __future__ import annotations

import re
import time

import pytest
import pytest_asyncio
from playwright.async_api import expect

from aos.clock import SystemClock
from aos.testing.harness import running_aos
from aos.testing.scripted import ScriptedModel
from aos.v1 import registry_pb2 as pb
from aos.v1.dispatcher_pb2 import CancelJobRequest, CreateJobRequest
from aos.v1.types_pb2 import Order
from aos.verification.keys import OperatorKey
from aos.verification.projects import prove_request
from tests.browser.conftest import PHONE, sideways

pytestmark = pytest.mark.asyncio(loop_scope="module")

MARKUP = "<img src=x onerror=\"alert('it ran')\"><script>alert('it ran')</script><b>bold</b>"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network():
    """An operator that does one job at a time, open to this machine."""
    async with running_aos(ScriptedModel("It is mathematics.", slots=1), envoy=True, clock=SystemClock(), open_to_all=True) as aos:
        yield aos


def order(prompt: str) -> CreateJobRequest:
    return CreateJobRequest(order=Order(model="scripted", prompt=prompt))


class TestNetwork:
    async def test_operators_models_and_money(self, network, viewer):
        """Without a token, the page shows who runs what, whether it can be used, and what the project has."""
        async with viewer.looking(network.url) as page:
            await expect(page.locator("#live")).to_contain_text("live")
            await expect(page.locator("#operators > li")).to_have_count(1)
            await expect(page.locator("#operators .name")).to_have_attribute("title", network.operators[0].lower())
            await expect(page.locator("#operators .pill")).to_have_text("ready")
            model = page.locator("#models > li", has_text="scripted")
            await expect(model.locator(".name").first).to_have_text("scripted")
            await expect(model).to_contain_text("context 16,384 tokens")
            await expect(page.locator("#figure-operators")).to_have_text("1")
            await expect(page.locator("#ledger")).to_contain_text(re.compile(r"Available(0\.9\d*|1) coins?"))
            await expect(page.locator("#who")).to_have_text("project demo, open to this machine")
            await expect(page.locator("#sign-in")).to_be_hidden()

    async def test_a_model_that_cannot_be_used_says_why(self, network, viewer):
        """A registered model server that is down shows its state, its address, and, as text, what its operator says of it."""
        key, api = OperatorKey.create(), "http://127.0.0.1:1/v1/chat/completions"
        request = pb.RegisterProjectRequest(project="shop", replicas=[pb.ReplicaSpec(model="elsewhere", api=api)])
        request.proof.CopyFrom(prove_request(key, request, issued_at=int(time.time())))
        made = await network.registry.RegisterProject(request)
        report = pb.ReplicaReport(id=made.replicas[0].id, state=pb.REPLICA_STATE_UNHEALTHY, reason=MARKUP)
        report.capabilities.extend(["chat", "stream"])
        said = pb.ReportReplicasRequest(reports=[report])
        said.proof.CopyFrom(prove_request(key, said, issued_at=int(time.time())))
        await network.registry.ReportReplicas(said)

        async with viewer.looking(network.url) as page:
            shown = page.locator("#models > li", has_text="elsewhere")
            await expect(shown.locator(".pill").first).to_have_text("unhealthy")
            await expect(shown.locator(".replicas .reason")).to_have_text(MARKUP)
            await expect(shown.locator(".replicas .name")).to_have_text(api)
            await expect(shown.locator(".replicas .small")).to_contain_text("chat, stream")
            assert await page.locator("#models img, #models script, #models b").count() == 0

    async def test_a_network_that_is_gone_comes_back(self, network, viewer):
        """A page that loses the network says so, tries again by itself, and is live again."""
        async with viewer.looking("about:blank") as page:
            await page.route("**/status/feed", lambda route: route.abort())
            await page.goto(network.url)
            await expect(page.locator("#live")).to_have_text("connection lost, trying again")
            await page.unroute("**/status/feed")
            await expect(page.locator("#live")).to_have_text("live")
            await expect(page.locator("#operators > li")).to_have_count(1)
        told, viewer.errors[:] = list(viewer.errors), []
        assert all("ERR_FAILED" in one for one in told)

    async def test_a_page_that_nobody_looks_at_rests(self, network, viewer):
        """Ten seconds after a page is hidden it lets go of its feed; once somebody looks again it is live at once."""
        hide = "value => { window.away = value; document.dispatchEvent(new Event('visibilitychange')); }"
        async with viewer.looking("about:blank") as page:
            await page.add_init_script("Object.defineProperty(document, 'hidden', { get: () => window.away === true })")
            await page.clock.install()
            await page.goto(network.url)
            await expect(page.locator("#live")).to_have_text("live")
            await page.evaluate(hide, True)
            await page.clock.fast_forward(9_000)
            await expect(page.locator("#live")).to_have_text("live")
            await page.clock.fast_forward(2_000)
            await expect(page.locator("#live")).to_have_text("paused")
            await page.evaluate(hide, False)
            await expect(page.locator("#live")).to_have_text("live")


class TestJobs:
    async def test_a_job_is_seen_as_it_runs(self, network, viewer):
        """A job appears by itself, its text and tokens as they come, and how fast; then its end, and how long it took."""
        hold = network.model.hold("It is ")
        async with viewer.looking(network.url) as page:
            await expect(page.locator("#live")).to_contain_text("live")
            await network.dispatcher.CreateJob(order("What is AI, live?"))
            row = page.locator("#jobs tbody tr", has_text="What is AI, live?")
            await expect(row.locator(".pill")).to_have_text("running")
            await expect(row.locator(".said")).to_have_text("It is")
            await expect(row.locator(".number").first).to_have_text("6")
            await expect(row.locator(".number").nth(1)).to_have_text("0.0")
            await expect(page.locator("#figure-running")).to_have_text("1")
            hold.release()
            await expect(row.locator(".pill")).to_have_text("completed")
            await expect(row.locator(".said")).to_have_text("It is mathematics.")
            await expect(row.locator(".number").first).to_have_text("18")
            await expect(row.locator(".number").last).to_have_text(re.compile(r"^[\d.]+ (ms|s)$"))
            await expect(page.locator("#figure-running")).to_have_text("0")

    async def test_who_waits_and_why(self, network, viewer):
        """A job that finds no free place is counted as waiting, with the reason; one that is cancelled says so."""
        hold = network.model.hold()
        made = [await network.dispatcher.CreateJob(order(f"Wait {number}")) for number in range(2)]
        try:
            async with viewer.looking(network.url) as page:
                await expect(page.locator("#figure-waiting")).to_have_text("1")
                await expect(page.locator("#queue-why")).to_contain_text("has all 1 places taken")
                row = page.locator("#jobs tbody tr", has_text="Wait 1")
                await expect(row.locator(".pill")).to_have_text("queued")
                await network.dispatcher.CancelJob(CancelJobRequest(name=made[1].name))
                await expect(row.locator(".pill")).to_have_text("cancelled")
                await expect(page.locator("#queue-why")).to_be_hidden()
        finally:
            await network.dispatcher.CancelJob(CancelJobRequest(name=made[0].name))
            hold.release()

    async def test_one_job_with_its_events(self, network, viewer):
        """Opened, a job shows what was asked and answered and its log as it grows, to its end."""
        hold = network.model.hold("It is ")
        made = await network.dispatcher.CreateJob(order("What is AI, in full?"))
        async with viewer.looking(network.url) as page:
            await page.locator("#jobs").get_by_role("button", name="What is AI, in full?").click()
            sheet = page.locator("#sheet")
            await expect(sheet.locator(".name")).to_have_text(made.name)
            await expect(sheet.locator(".text").first).to_have_text("What is AI, in full?")
            await expect(sheet.locator(".text").nth(1)).to_have_text("It is ")
            await expect(sheet.locator(".events li").nth(2)).to_have_text("#3 running")
            hold.release()
            await expect(sheet.locator(".text").nth(1)).to_have_text("It is mathematics.")
            await expect(sheet.locator(".events li").last).to_have_text(re.compile(r"^#\d+ completed$"))
            await expect(sheet.locator(".facts")).to_contain_text("Tokens21 in, 18 out")


class TestText:
    async def test_markup_is_shown_as_it_is_written(self, network, viewer):
        """Prompts and answers that are markup stay text, in the list and in full: nothing of them is drawn, loaded or run."""
        network.model.say(MARKUP, to="<i>asked</i>")
        await network.client.answer(Order(model="scripted", prompt=f"<i>asked</i>{MARKUP}"))
        async with viewer.looking(network.url) as page:
            row = page.locator("#jobs tbody tr", has_text="<i>asked</i>")
            await expect(row.locator(".said")).to_have_text(MARKUP)
            await row.get_by_role("button").click()
            sheet = page.locator("#sheet")
            await expect(sheet.locator(".text").first).to_have_text(f"<i>asked</i>{MARKUP}")
            await expect(sheet.locator(".text").nth(1)).to_have_text(MARKUP)
            await expect(sheet.locator(".banner")).to_have_attribute("data-good", "true")
            assert await page.locator("body img, body script, body b, body i").count() == 0

    @pytest.mark.parametrize(
        "slip",
        [
            "document.body.innerHTML = '<b>x</b>'",
            "document.body.setAttribute('onclick', 'alert(1)')",
            "document.createElement('script').src = '/v1/jobs'",
            "document.createElement('script').text = 'alert(1)'",
        ],
    )
    async def test_the_browser_would_refuse_a_slip_of_ours(self, network, viewer, slip):
        """Even if the page made markup or code of a text, the policy that it is served with would stop it."""
        async with viewer.looking(network.url) as page:
            await expect(page.locator("#live")).to_contain_text("live")
            assert await page.evaluate(f"(() => {{ try {{ {slip}; }} catch (error) {{ return error.name; }} }})()") == "TypeError"
        told, viewer.errors[:] = list(viewer.errors), []
        assert all("Trusted" in one for one in told)


class TestPhone:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    async def test_nothing_is_wider_than_it(self, network, viewer, scheme):
        """On 375 pixels nothing scrolls sideways: not the page with its jobs, not a job with its receipt, however long a word."""
        await network.client.answer(Order(model="scripted", prompt="W" * 300))
        async with viewer.looking(network.url, viewport=PHONE, color_scheme=scheme) as page:
            await expect(page.locator("#jobs tbody tr").first).to_be_visible()
            assert await sideways(page) == 0
            await page.locator("#jobs").get_by_role("button", name="W" * 200).first.click()
            await expect(page.locator("#sheet .banner")).to_have_attribute("data-good", "true")
            await page.locator("#sheet summary").last.click()
            assert await sideways(page) == 0

    async def test_dark_is_dark(self, network, viewer):
        """Who prefers dark pages gets one: light letters on dark ground."""
        async with viewer.looking(network.url, color_scheme="dark") as page:
            style = await page.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
            ink, ground = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in style)
            assert ink > 600
            assert ground < 150


class TestKeyboard:
    async def test_a_job_is_opened_and_closed_without_a_mouse(self, network, viewer):
        """Enter on a job opens it, Escape closes it, and the focus is where it was, though the list was written anew meanwhile."""
        await network.client.answer(Order(model="scripted", prompt="By hand?"))
        async with viewer.looking(network.url) as page:
            job = page.locator("#jobs").get_by_role("button", name="By hand?")
            await job.focus()
            await network.client.answer(Order(model="scripted", prompt="And another?"))
            await expect(page.locator("#jobs")).to_contain_text("And another?")
            await page.keyboard.press("Enter")
            await expect(page.locator("#sheet .text").first).to_have_text("By hand?")
            await page.keyboard.press("Escape")
            await expect(page.locator("#sheet")).to_be_hidden()
            await expect(job).to_be_focused()
