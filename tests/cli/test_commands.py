"""The commands that talk to a network."""

from __future__ import annotations

import json
from dataclasses import replace

from aos.dispatcher.lottery import Claim, Evidence, Falsehood
from aos.verification.draw import Draw
from aos.verification.results import claim_of
from aos.verification.vrf import VrfKey
from tests.verification.test_envelope import DISPATCHED


class TestSubmit:
    async def test_streams_the_answer(self, aos, on):
        """The answer goes to standard output, what is said about it to standard error."""
        aos.model.say("Paris, probably.")

        result = await on("submit", "Where is the Louvre?")

        assert (result.code, result.out) == (0, "Paris, probably.\n")
        assert "neurons" in result.err

    async def test_passes_the_options_on(self, aos, on):
        """Sampling options and the system prompt reach the order."""
        result = await on(
            "submit",
            "Hi",
            "--system",
            "Be kind.",
            "--max-tokens",
            "4",
            "--seed",
            "7",
            "--stop",
            "END",
            "--no-wait",
            "--priority",
            "-3",
            "--determinism",
            "best-effort",
        )
        shown = json.loads((await on("jobs", result.out.strip())).out)

        assert shown["order"]["sampling"] | {"temperature": 0} == {
            "temperature": 0,
            "top_p": 1.0,
            "top_k": 0,
            "max_tokens": 4,
            "seed": "7",
            "stop": ["END"],
        }
        assert [turn["content"] for turn in shown["order"]["chat"]["messages"]] == ["Be kind.", "Hi"]
        assert (shown["priority"], shown["order"]["determinism"]) == (-3, "DETERMINISM_BEST_EFFORT")

    async def test_an_unknown_model_is_named_with_those_there_are(self, on):
        """A wrong name fails with status 1 and the list of right ones."""
        result = await on("submit", "Hi", "--model", "nonesuch")

        assert result.code == 1
        assert "nonesuch" in result.err
        assert "scripted" in result.err

    async def test_a_number_out_of_range_is_refused(self, on):
        """The refusal names the field and its range."""
        result = await on("submit", "Hi", "--temperature", "9")

        assert result.code == 1
        assert "temperature" in result.err
        assert "from 0 to 2" in result.err

    async def test_a_wrong_token_is_refused(self, aos, cli, tmp_path):
        """Without the project's token nothing is answered."""
        result = await cli("--data", str(tmp_path), "--connect", aos.address, "--token", "wrong", "submit", "Hi")

        assert result.code == 1
        assert "token" in result.err

    async def test_no_network_is_said_plainly(self, cli, tmp_path):
        """If nobody listens, the message says how to start a network."""
        result = await cli("--data", str(tmp_path), "--connect", f"unix:{tmp_path}/nobody", "submit", "Hi")

        assert result.code == 1
        assert "aos up" in result.err


class TestReceipt:
    async def test_holds_and_is_checked_offline(self, on, cli, tmp_path):
        """A receipt written by submit is verified with no network, and what is not checked is said."""
        await on("submit", "Hi", "--receipt", str(tmp_path / "receipt.json"))

        result = await cli("verify", str(tmp_path / "receipt.json"))

        assert result.code == 0
        assert "The receipt holds." in result.out
        assert "not checked" in result.out

    async def test_every_forgery_is_found(self, on, cli, tmp_path):
        """Another answer, price or model under the same signature does not hold, and the status is 1."""
        await on("submit", "Hi", "--receipt", str(tmp_path / "receipt.json"))
        good = json.loads((tmp_path / "receipt.json").read_text())
        forgeries = {
            "the answer's text": good | {"output": "Something else."},
            "the operator's signature": good | {"receipt": good["receipt"] | {"price": "1"}},
            "the request": good | {"order": good["order"] | {"model": "dearer"}},
            "state_root": {what: said for what, said in good.items() if what != "trace"},
        }
        for what, forged in forgeries.items():
            (tmp_path / "forged.json").write_text(json.dumps(forged))

            result = await cli("verify", str(tmp_path / "forged.json"))

            assert result.code == 1, what
            assert f"✗ {what}" in result.out
            assert "does NOT hold" in result.out

    async def test_is_printed_for_a_job(self, on, cli):
        """`aos receipt JOB | aos verify -` works."""
        await on("submit", "Hi")
        job = json.loads((await on("jobs", "--json")).out)["jobs"][0]["name"]

        printed = await on("receipt", job)

        assert (await cli("verify", "-", given=printed.out)).code == 0

    async def test_replay_needs_weights(self, cli, tmp_path):
        """Who asks for a replay and names no weights is told what is missing, before anything is read."""
        result = await cli("verify", "--replay", str(tmp_path / "nothing"))

        assert result.code == 2
        assert "--model" in result.err

    async def test_junk_is_refused(self, cli, tmp_path):
        """A file that is no receipt is said to be none."""
        (tmp_path / "junk").write_text("{]")

        result = await cli("verify", str(tmp_path / "junk"))

        assert result.code == 1
        assert "is not a receipt" in result.err


class TestVerifyOtherStatements:
    async def test_a_message_of_the_older_network(self, cli, tmp_path):
        """A message that its own code signed holds, with the address of who signed; one that was changed does not."""
        (tmp_path / "good").write_text(DISPATCHED)
        (tmp_path / "bad").write_text(DISPATCHED.replace("What is AI?", "What was AI?"))

        good, bad = await cli("verify", str(tmp_path / "good")), await cli("verify", str(tmp_path / "bad"))

        assert (good.code, bad.code) == (0, 1)
        assert "signed by 0x1DdBd306eFFbb5FF29E41398A6a1198Ee6Fb51ce" in good.out
        assert "NOT hold" in bad.out

    async def test_a_record_of_a_false_claim(self, cli, tmp_path):
        """The record of a claim that is false holds; that of a true one, and one that is spelt otherwise, do not."""
        draw = Draw(bytes(32), bytes(64), 7, 0)
        vrf = claim_of(VrfKey(b"\x01" * 32), draw)
        claim = Claim(f"0x{'ab' * 20}", vrf.verify_pubkey, vrf.random_value, vrf.proof, selected=True)
        record = Evidence(Falsehood.OTHER_RESULT, claim, draw, vrf.verify_pubkey)
        true = replace(record, claim=replace(claim, selected=False))
        (tmp_path / "false").write_bytes(record.canonical)
        (tmp_path / "true").write_bytes(true.canonical)
        (tmp_path / "other").write_bytes(record.canonical.replace(b":", b": ", 1))

        held, made_up, spelt = [await cli("verify", str(tmp_path / name)) for name in ("false", "true", "other")]

        assert (held.code, made_up.code, spelt.code) == (0, 1, 1)
        assert "is said to have made is false: other_result" in " ".join(held.out.split())


class TestChat:
    async def test_one_message(self, aos, on):
        """With a message, the answer is printed and the command ends."""
        aos.model.say("Hello there.")

        assert (await on("chat", "Hello")).out == "Hello there.\n"

    async def test_turn_by_turn(self, aos, on):
        """Without one, each line is a turn, and the model sees those before."""
        aos.model.say("First.", to="one")
        aos.model.say("Second.", to="two")

        result = await on("chat", given="one\n\ntwo\n")

        assert result.code == 0
        assert "First." in result.out
        assert "Second." in result.out
        assert aos.model.prompts[-1] == "user: one\nassistant: First.\nuser: two\n"


class TestLook:
    async def test_models(self, on):
        """The table shows the model and that it can be used; --json gives the API's message."""
        assert "ready" in (await on("models")).out
        assert json.loads((await on("models", "--json")).out)["models"][0]["name"] == "scripted"

    async def test_operators(self, aos, on):
        """The table shows the operator's address, and how well its models work."""
        shown = (await on("operators", columns=200)).out.lower()

        told = json.loads((await on("operators", "--json")).out)
        assert aos.operators[0].lower() in shown
        assert told["operators"][0]["name"].lower() == f"operators/{told['health'][0]['operator']}"
        assert "scripted: works, next probe" in shown

    async def test_jobs(self, on):
        """Jobs are listed newest first, with their whole name, state, tokens and price, in a narrow terminal too."""
        await on("submit", "one")
        named = (await on("submit", "two", "--no-wait")).out.strip()

        shown = (await on("jobs", columns=60)).out

        assert named in shown

        assert shown.index("two") < shown.index("one")
        assert "completed" in shown

    async def test_cancel(self, aos, on):
        """--cancel ends a running job."""
        hold = aos.model.hold()
        job = (await on("submit", "Hi", "--no-wait")).out.strip()
        await hold.reached()

        result = await on("jobs", job, "--cancel")

        assert json.loads(result.out)["state"] == "JOB_STATE_CANCELLED"


class TestOptions:
    async def test_a_network_that_is_none_is_refused(self, cli):
        """Where registered model servers may be is read before anything starts."""
        result = await cli("up", "--allow-api", "nonsense")

        assert result.code == 2
        assert "allow-api: must be a network like 10.0.0.0/8" in result.err
