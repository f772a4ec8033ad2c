"""A user with a risk tag: which of its jobs run again, how it is seen, and how the tag goes."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from aos.dispatcher.risk import RiskSettings
from aos.v1 import dispatcher_pb2 as pb
from tests.dispatcher.checking import OTHER, OTHERS, TEXT, TOKENS, checking
from tests.refusals import refused

ALL = 10_000
WIDTHS = RiskSettings(
    before_jobs=2,
    after_jobs=2,
    clean_reviews=2,
    plain=0,
    suspicion_before=ALL,
    suspicion_after=ALL,
    malicious_before=ALL,
    malicious_after=ALL,
)


@pytest_asyncio.fixture
async def aos(tmp_path):
    async with checking(tmp_path, risk=WIDTHS) as harness:
        yield harness


async def user(aos, name: str, by=None, **fields) -> pb.User:
    return await (by or aos.project).GetUser(pb.GetUserRequest(user=name, **fields))


async def run(aos, main, **asked) -> pb.Job:
    """A job that ``main`` answers, with whoever is attached."""
    job = await aos.submit(**asked)
    lease = await main.lease()
    main.start(lease)
    main.say(lease, TEXT, TOKENS)
    main.finish(lease, TEXT, TOKENS)
    return await aos.ends(job)


class TestWindow:
    async def test_earlier_jobs_run_again(self, aos):
        """The user's jobs before a tagged one are checked, as far as the window goes; so is the job itself, as `after`."""
        main, reviewer = await aos.many(1, 2)
        await main.attach(aos.nobody)
        early = [await run(aos, main, user="ann") for _ in range(3)]
        other = await run(aos, main, user="bob")
        assert {one.position for one in early} == {pb.RISK_POSITION_UNSPECIFIED}
        job = await aos.submit(user="ann", tag=pb.RISK_TAG_SUSPICION)
        lease = await main.lease()
        await reviewer.attach(aos.nobody)
        main.start(lease)
        main.say(lease, TEXT, TOKENS)
        main.finish(lease, TEXT, TOKENS)
        await aos.ends(job)

        concluded = await aos.concluded(early[2])

        assert concluded.position == pb.RISK_POSITION_UNSPECIFIED, "the job ran before there was a tag"
        assert concluded.verdict == pb.VERDICT_UNCHECKED, "nobody else was there when it was looked at"
        assert (await aos.job(early[0])).verdict_reason == "", "beyond the window"
        assert (await aos.job(other)).verdict_reason == "", "another user"
        await reviewer.review(TEXT, TOKENS)
        checked = await aos.eventually(lambda: aos.job(job), lambda seen: seen.verdict == pb.VERDICT_CHECKED)
        assert (checked.tag, checked.position) == (pb.RISK_TAG_SUSPICION, pb.RISK_POSITION_AFTER)
        assert [(one.tag, one.position) for one in await aos.results(job)] == [(pb.RISK_TAG_SUSPICION, pb.RISK_POSITION_AFTER)] * 2

    async def test_before_is_shown_on_the_result(self, aos):
        """A review of an earlier job has the tag that it ran under and the position `before`."""
        main, reviewer = await aos.many(1, 2)
        await main.attach(aos.nobody)
        early = await run(aos, main, user="ann")
        await reviewer.attach(aos.nobody)
        await aos.submit(user="ann", tag=pb.RISK_TAG_MALICIOUS)
        # the tagged job waits for one of the two; the check of the earlier one goes to the one that did not run it
        messages = [await reviewer.read()]
        if not messages[0].HasField("asked"):
            messages.append(await reviewer.read())
        asked = next(one.asked for one in messages if one.HasField("asked"))
        assert asked.tag == pb.RISK_TAG_MALICIOUS
        assert asked.draw.job.hex() == early.name.removeprefix("jobs/")
        reviewer.send(claimed=reviewer.claim(asked))
        leases = [one.lease for one in messages if one.HasField("lease")]
        while not any("check" in one.id for one in leases):
            leases.append(await reviewer.lease())
        lease = next(one for one in leases if "check" in one.id)
        reviewer.start(lease)
        reviewer.say(lease, TEXT, TOKENS)
        reviewer.finish(lease, TEXT, TOKENS)

        await aos.eventually(lambda: aos.job(early), lambda seen: seen.verdict == pb.VERDICT_CHECKED)
        first, again = await aos.results(early)
        assert (first.tag, first.position) == (pb.RISK_TAG_UNSPECIFIED, pb.RISK_POSITION_UNSPECIFIED)
        assert (again.tag, again.position, again.review) == (pb.RISK_TAG_MALICIOUS, pb.RISK_POSITION_BEFORE, True)


class TestUser:
    async def test_a_tag_stays(self, aos):
        """The user keeps the highest tag; later jobs run under it, whatever they come with; other users do not."""
        main = await aos.keyed(1)
        assert (await user(aos, "ann")).tag == pb.RISK_TAG_UNSPECIFIED
        await run(aos, main, user="ann", tag=pb.RISK_TAG_MALICIOUS)
        plain = await run(aos, main, user="ann")
        lower = await run(aos, main, user="ann", tag=pb.RISK_TAG_SUSPICION)
        bob = await run(aos, main, user="bob")

        assert [(one.tag, one.position) for one in (plain, lower)] == [(pb.RISK_TAG_MALICIOUS, pb.RISK_POSITION_AFTER)] * 2
        assert (bob.tag, bob.position) == (pb.RISK_TAG_UNSPECIFIED, pb.RISK_POSITION_UNSPECIFIED)
        seen = await user(aos, "ann")
        assert (seen.project, seen.tag, seen.clean_reviews_needed) == ("projects/p", pb.RISK_TAG_MALICIOUS, 2)
        assert (await user(aos, "bob")).tag == pb.RISK_TAG_UNSPECIFIED

    async def test_it_outlives_the_dispatcher(self, aos):
        """A tag is there after a crash."""
        await aos.keyed(1)
        await aos.submit(user="ann", tag=pb.RISK_TAG_SUSPICION)
        await aos.crash()
        assert (await user(aos, "ann")).tag == pb.RISK_TAG_SUSPICION

    async def test_clean_reviews_clear_it(self, aos):
        """After the window, and as many clean reviews in a row as the settings say, the user has no tag."""
        main, reviewer = await aos.many(1, 2)
        await main.attach(aos.nobody)
        await aos.answered(main, [reviewer], user="ann", tag=pb.RISK_TAG_SUSPICION)
        await reviewer.review(TEXT, TOKENS)
        await aos.eventually(lambda: user(aos, "ann"), lambda seen: seen.clean_reviews == 1)
        for _ in range(2):
            reviewer.drop()
            await aos.eventually(lambda: attached(aos), lambda number: number == 1)
            await aos.answered(main, [reviewer], user="ann")
            await reviewer.review(TEXT, TOKENS)

        cleared = await aos.eventually(lambda: user(aos, "ann"), lambda seen: not seen.tag)
        assert (cleared.jobs_left, cleared.clean_reviews) == (0, 0)

    async def test_a_bad_review_starts_again(self, aos):
        """An answer that is not confirmed takes the clean reviews back."""
        main, reviewer = await aos.many(1, 2)
        await main.attach(aos.nobody)
        await aos.answered(main, [reviewer], user="ann", tag=pb.RISK_TAG_SUSPICION)
        await reviewer.review(TEXT, TOKENS)
        await aos.eventually(lambda: user(aos, "ann"), lambda seen: seen.clean_reviews == 1)
        reviewer.drop()
        await aos.eventually(lambda: attached(aos), lambda number: number == 1)
        job = await aos.answered(main, [reviewer], user="ann")
        await reviewer.review(OTHER, OTHERS)

        await aos.eventually(lambda: aos.job(job), lambda seen: seen.verdict == pb.VERDICT_CHALLENGED)
        seen = await user(aos, "ann")
        assert (seen.tag, seen.jobs_left, seen.clean_reviews) == (pb.RISK_TAG_SUSPICION, 2, 0)

    async def test_who_may_see_it(self, aos):
        """A project sees its own users; the administrator all."""
        await aos.keyed(1)
        await aos.submit(user="ann", tag=pb.RISK_TAG_SUSPICION)
        assert (await user(aos, "ann", by=aos.admin, project="projects/p")).tag == pb.RISK_TAG_SUSPICION
        assert (await user(aos, "ann", by=aos.other)).tag == pb.RISK_TAG_UNSPECIFIED
        with refused("PERMISSION_DENIED"):
            await user(aos, "ann", by=aos.other, project="projects/p")
        with refused("INVALID_FIELD"):
            await user(aos, "ann", project="p")

    async def test_a_job_without_money_tags_nobody(self, aos):
        """A job that was never accepted leaves no trace on its user."""
        await aos.keyed(1)
        with refused("INSUFFICIENT_BALANCE"):
            await aos.submit(by=aos.other, user="ann", tag=pb.RISK_TAG_MALICIOUS)
        assert (await user(aos, "ann", by=aos.other)).tag == pb.RISK_TAG_UNSPECIFIED

    @pytest.mark.parametrize("change", [{"tag": pb.RISK_TAG_SUSPICION}, {"redundancy": 2}])
    async def test_they_are_a_part_of_the_request(self, aos, change):
        """The same request_id with another tag or redundancy is another request."""
        await aos.keyed(1)
        await aos.submit(request_id="r")
        with refused("REQUEST_ID_REUSED"):
            await aos.submit(request_id="r", **change)


async def attached(aos) -> int:
    await asyncio.sleep(0)
    return aos.node._relay.attached
