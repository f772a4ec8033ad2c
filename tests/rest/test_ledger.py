"""`/v1/ledger…` behind Envoy: what the reference does not show."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROVIDER = "0x" + "ab" * 20


class TestRefusals:
    async def test_a_refusal_says_what_is_wrong(self, rest):
        """Its status, reason and facts are those of the API."""
        reply = await rest.post("/v1/ledger:refund", json={"amount": str(10**30)})
        body = reply.json()
        assert (reply.status_code, body["code"]) == (400, 9)
        info = next(one for one in body["details"] if one["@type"].endswith("ErrorInfo"))
        assert (info["reason"], info["metadata"]["needed"]) == ("INSUFFICIENT_BALANCE", str(10**30))

    @pytest.mark.parametrize("amount", [0.5, -1, "1.5", "1e3", "", None, [], {}])
    async def test_amounts_that_are_none(self, rest, amount):
        """JSON numbers with a fraction or a sign, and what is no number at all, move nothing."""
        before = (await rest.get("/v1/ledger")).json()
        reply = await rest.post("/v1/ledger:transfer", json={"amount": amount, "provider": PROVIDER, "service": "inference"})
        assert reply.status_code == 400
        assert (await rest.get("/v1/ledger")).json() == before

    async def test_nothing_is_open_to_all(self, bare, rest):
        """Without a token there is no ledger; with a project's, none but its own."""
        for path in (
            "/v1/ledger",
            "/v1/ledgers",
            "/v1/ledger:statement",
            "/v1/ledger:check",
            f"/v1/ledger/accounts/inference/{PROVIDER}",
        ):
            assert (await bare.get(path)).status_code == 401
        assert (await rest.get("/v1/ledger", params={"account": "accounts/other"})).status_code == 403
        for path in ("/v1/ledgers", "/v1/ledger:check"):
            assert (await rest.get(path)).status_code == 403
        assert (await rest.post("/v1/ledger:deposit", json={"account": "accounts/demo", "amount": "1"})).status_code == 403

    @pytest.mark.parametrize(("verb", "path"), [("PUT", "/v1/ledger"), ("GET", "/v1/ledger:refund"), ("DELETE", "/v1/ledger")])
    async def test_another_method(self, rest, verb, path):
        """The path says which it takes."""
        reply = await rest.request(verb, path)
        assert reply.status_code == 405
        assert "POST" in reply.headers["allow"]


class TestSubAccounts:
    async def test_are_found_by_service_and_provider(self, rest):
        """In either case of the address, and not under another service."""
        sent = {"amount": "7", "provider": PROVIDER, "service": "inference", "request_id": "once"}
        made = (await rest.post("/v1/ledger:transfer", json=sent)).json()
        assert (await rest.post("/v1/ledger:transfer", json=sent)).json() == made
        mixed = "0x" + "Ab" * 20
        assert (await rest.get(f"/v1/ledger/accounts/inference/{mixed}")).json() == made
        missing = await rest.get(f"/v1/ledger/accounts/fine-tuning/{PROVIDER}")
        assert (missing.status_code, "ACCOUNT_NOT_FOUND" in missing.text) == (404, True)


class TestChecks:
    async def test_the_books_hold(self, aos_rest, rest):
        """After all that these tests did: every invariant, over REST, and in the metrics."""
        headers = {"authorization": f"Bearer {aos_rest.admin_token}"}
        found = (await rest.get("/v1/ledger:check", headers=headers)).json()
        assert found["hold"], found
        metrics = (await rest.get("/metrics", headers=headers)).text
        assert "aos_ledger_invariants_broken 0.0" in metrics
        assert f"aos_ledger_lines {float(found['lines'])}" in metrics
