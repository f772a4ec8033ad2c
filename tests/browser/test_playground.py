"""The playground: a conversation that streams and can be stopped, and pictures."""

from __future__ import annotations

import re

import pytest
import pytest_asyncio
from playwright.async_api import expect

from aos.clock import SystemClock
from aos.testing.harness import running_aos
from aos.testing.painted import PaintedModel
from aos.testing.scripted import ScriptedModel
from aos.v1.dispatcher_pb2 import JobState, ListJobsRequest

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network():
    async with running_aos(ScriptedModel("It is mathematics."), envoy=True, clock=SystemClock(), open_to_all=True) as aos:
        yield aos


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def painter():
    async with running_aos(PaintedModel(), name="painter", envoy=True, clock=SystemClock(), open_to_all=True) as aos:
        yield aos


class TestChat:
    async def test_an_answer_comes_as_it_is_said(self, network, viewer):
        """The beginning of an answer is there before its end; then what it took, and the way to its receipt."""
        hold = network.model.hold("It is ")
        async with viewer.looking(network.url) as page:
            await expect(page.locator("#model")).to_have_value("scripted")
            await page.locator("#prompt").fill("What is AI?")
            await page.locator("#prompt").press("Enter")
            turn = page.locator(".turn").nth(1)
            await expect(turn.locator(".words")).to_have_text("It is ")
            await expect(page.locator("#send")).to_be_hidden()
            hold.release()
            await expect(turn.locator(".words")).to_have_text("It is mathematics.")
            await expect(turn.locator(".small")).to_contain_text(
                re.compile(r"^18 tokens · [\d.]+ tokens/s · first text after [\d.]+ s")
            )
            await turn.get_by_role("button", name="receipt", exact=True).click()
            await expect(page.locator("#sheet .banner")).to_have_text("The receipt holds.")

    async def test_the_conversation_goes_on(self, network, viewer):
        """What was said before is sent along, until the conversation starts over."""
        async with viewer.looking(network.url) as page:
            for number, question in enumerate(("First?", "Second?"), 1):
                await page.locator("#prompt").fill(question)
                await page.get_by_role("button", name="Send").click()
                await expect(page.get_by_role("button", name="receipt", exact=True)).to_have_count(number)
            assert network.model.prompts[-1] == "user: First?\nassistant: It is mathematics.\nuser: Second?\n"
            await page.get_by_role("button", name="Start over").click()
            await expect(page.locator(".turn")).to_have_count(0)
            await page.locator("#prompt").fill("Third?")
            await page.get_by_role("button", name="Send").click()
            await expect(page.get_by_role("button", name="receipt", exact=True)).to_have_count(1)
            assert network.model.prompts[-1] == "user: Third?\n"

    async def test_stopping_cancels_the_job(self, network, viewer):
        """An answer that is stopped costs nobody anything more: its job is cancelled, and the next question can be asked."""
        hold = network.model.hold("It is ")
        async with viewer.looking(network.url) as page:
            await page.locator("#prompt").fill("Stop me")
            await page.get_by_role("button", name="Send").click()
            await expect(page.locator(".turn .words").nth(1)).to_have_text("It is ")
            await page.get_by_role("button", name="Stop").click()
            await expect(page.locator(".turn .small").first).to_have_text("Stopped; its job is cancelled.")
            await expect(page.locator("#jobs tbody tr", has_text="Stop me").locator(".pill")).to_have_text("cancelled")
            hold.release()
        newest = (await network.dispatcher.ListJobs(ListJobsRequest(page_size=1))).jobs[0]
        assert newest.state == JobState.JOB_STATE_CANCELLED

    async def test_a_refusal_is_told_in_the_networks_words(self, network, viewer):
        """A question that is too long is not answered, and the page says why."""
        async with viewer.looking(network.url) as page:
            await page.locator("#prompt").fill("x" * 20_000)
            await page.get_by_role("button", name="Send").click()
            await expect(page.locator(".turn .problem")).to_contain_text("16384")
            await expect(page.get_by_role("button", name="Send")).to_be_enabled()
        told, viewer.errors[:] = list(viewer.errors), []
        assert all("400" in one for one in told)


class TestPictures:
    async def test_a_picture_is_shown(self, painter, viewer):
        """A model of pictures is asked for one in the size that was chosen; it is drawn, with its prompt as its description."""
        async with viewer.looking(painter.url) as page:
            await expect(page.locator("#model")).to_have_value("painter")
            await page.locator("#size").select_option("128x128")
            await page.locator("#prompt").fill('a "red" circle')
            await page.get_by_role("button", name="Send").click()
            picture = page.get_by_role("img", name='a "red" circle')
            await expect(picture).to_be_visible()
            await expect(picture).to_have_js_property("naturalWidth", 128)
            await expect(page.locator(".turn .small")).to_contain_text(re.compile(r"^1 picture in [\d.]+ s"))
            await page.get_by_role("button", name="receipt", exact=True).click()
            await expect(page.locator("#sheet .banner")).to_have_text("The receipt holds.")
            await expect(page.locator("#sheet .finding", has_text="the pictures' digests")).to_have_attribute("data-good", "true")
            await expect(page.locator("#sheet .events li").nth(3)).to_have_text("#4 1 picture")
            shown = page.locator("#sheet").get_by_role("img", name='a "red" circle')
            await expect(shown).to_be_visible()
            await expect(shown).to_have_js_property("naturalWidth", 128)
