"""`/v1/proxy`: what is wrong with a signed request is said by its own error, which names the header."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import pytest_asyncio

from aos.clock import SystemClock
from aos.rpc.channel import channel
from aos.testing.harness import MODEL, running_aos
from aos.v1.broker_pb2 import GetSubAccountRequest, RetrieveFundRequest
from aos.v1.requests_pb2 import RevokeWalletRequest
from aos.v1.requests_pb2_grpc import RequestsStub
from aos.verification.keys import OperatorKey
from aos.verification.requests import HEADERS, LONGEST_SECONDS
from aos.verification.wallets import INFERENCE, Contract
from tests.rest.paying import Wallet, a_wallet

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/v1/proxy/chat/completions"
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "What is AI?"}], "max_tokens": 16}
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def requests(aos_rest):
    async with channel(aos_rest.address, aos_rest.token) as opened:
        yield RequestsStub(opened)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wallet(aos_rest, requests) -> Wallet:
    return await a_wallet(aos_rest, requests)


@pytest_asyncio.fixture(loop_scope="module")
async def refused(bare):
    """Ask with these headers, and return the refusal's status, code and header."""

    async def ask(headers: dict[str, str], body: dict = ASKED) -> tuple[int, str, str]:
        reply = await bare.post(PATH, json=body, headers=headers)
        error = reply.json()["error"]
        assert list(error) == ["message", "type", "param", "code"]
        assert "zg-res-key" not in reply.headers
        return reply.status_code, error["code"], error["param"]

    return ask


class TestRefusals:
    async def test_a_replay(self, bare, wallet, refused):
        """A nonce is good once."""
        headers = wallet.headers(ASKED)
        assert (await bare.post(PATH, json=ASKED, headers=headers)).status_code == 200
        assert await refused(headers) == (409, "request_replayed", "Nonce")

    async def test_many_replays_at_once(self, bare, wallet):
        """Of one request sent many times at the same moment, one is answered."""
        headers = wallet.headers(ASKED)
        replies = await asyncio.gather(*(bare.post(PATH, json=ASKED, headers=headers) for _ in range(20)))
        assert sorted(one.status_code for one in replies) == [200, *[409] * 19]

    @pytest.mark.parametrize("seconds", [0, -1, LONGEST_SECONDS + 60])
    async def test_too_late_or_good_for_too_long(self, wallet, refused, seconds):
        """A request has an end, and not a far one."""
        assert await refused(wallet.headers(ASKED, expiry=wallet.now + seconds)) == (401, "request_expired", "X-AOS-Expiry")

    async def test_another_chain(self, wallet, refused):
        """What was signed for another chain, and says so; what does not say so is another's signature."""
        other = Wallet(wallet.account, wallet.provider, wallet.key, Contract(INFERENCE, 5, "0x" + 40 * "0"), wallet.now)
        assert await refused(other.headers(ASKED, nonce=10**9)) == (400, "other_chain", "X-AOS-Chain-Id")
        assert await refused(other.headers(ASKED, nonce=10**9, chain_id=0)) == (401, "request_signature", "Signature")

    async def test_another_contract(self, wallet, refused):
        """The same chain, and another contract on it."""
        other = Wallet(wallet.account, wallet.provider, wallet.key, Contract(INFERENCE, 0, "0x" + 40 * "1"), wallet.now)
        assert await refused(other.headers(ASKED, nonce=10**9)) == (401, "request_signature", "Signature")

    async def test_another_provider(self, wallet, refused):
        """A request is for the provider that it was signed for: neither taken by another nor paid from another's sub-account."""
        elsewhere = "0x" + 40 * "a"
        headers = wallet.headers(ASKED) | {"X-AOS-Provider": elsewhere}
        assert await refused(headers) == (401, "request_signature", "Signature")
        assert await refused(wallet.headers(ASKED, provider=elsewhere)) == (402, "account_not_found", "X-AOS-Account")

    async def test_another_body(self, wallet, refused):
        """Nothing in the body can be changed; its form can."""
        changed = ASKED | {"max_tokens": 17}
        assert await refused(wallet.headers(ASKED), changed) == (400, "body_changed", "X-AOS-Body-Hash")
        moved = wallet.headers(ASKED) | {"X-AOS-Body-Hash": wallet.headers(changed)["X-AOS-Body-Hash"]}
        assert await refused(moved, changed) == (401, "request_signature", "Signature")

    async def test_the_order_of_members_is_of_no_matter(self, bare, wallet):
        """A body is signed for as JSON, not as bytes."""
        turned = dict(reversed(ASKED.items()))
        assert (await bare.post(PATH, json=turned, headers=wallet.headers(ASKED))).status_code == 200

    async def test_another_signer(self, wallet, refused):
        """A signature is the named wallet's, and the wallet one of the account's."""
        stranger = Wallet(wallet.account, wallet.provider, now=wallet.now)
        assert await refused(stranger.headers(ASKED)) == (403, "wallet_not_authorized", "Address")
        posing = stranger.headers(ASKED) | {"Address": wallet.key.address}
        assert await refused(posing) == (401, "request_signature", "Signature")

    async def test_a_wallet_that_was_revoked(self, aos_rest, requests, refused):
        """What it signed before is good no more."""
        made = await a_wallet(aos_rest, requests, funds=0)
        headers = made.headers(ASKED)
        await requests.RevokeWallet(RevokeWalletRequest(wallet=made.key.address))
        assert await refused(headers) == (403, "wallet_not_authorized", "Address")

    async def test_the_other_of_two_signatures(self, wallet, refused):
        """For each signature anyone can compute a second one, which is not taken."""
        headers = wallet.headers(ASKED)
        raw = bytes.fromhex(headers["Signature"][2:])
        turned = raw[:32] + (ORDER - int.from_bytes(raw[32:64], "big")).to_bytes(32, "big") + bytes([55 - raw[64]])
        assert await refused(headers | {"Signature": f"0x{turned.hex()}"}) == (400, "signature_high_s", "Signature")

    async def test_a_fee_that_does_not_cover_the_answer(self, wallet, refused):
        """Nothing is begun that could cost more than was signed for."""
        assert await refused(wallet.headers(ASKED, max_fee="1")) == (402, "fee_too_low", "Fee")

    @pytest.mark.parametrize("model", [[], {}, 1, None, "another"])
    async def test_a_model_that_is_not_the_service(self, wallet, refused, model):
        """The body's model is the service that was signed for, whatever stands in its place."""
        body = ASKED | {"model": model}
        assert await refused(wallet.headers(body, service=MODEL), body) == (400, "bad_header", "X-AOS-Service")

    async def test_several_answers_for_one_fee(self, wallet, refused):
        """One request pays for one answer."""
        body = ASKED | {"n": 2}
        assert await refused(wallet.headers(body), body) == (400, "invalid_value", "n")

    @pytest.mark.parametrize("name", [one for one in HEADERS if one != "Signature"])
    async def test_a_header_that_is_missing_or_malformed(self, wallet, refused, name):
        """Each is needed, and has its form."""
        headers = wallet.headers(ASKED)
        assert await refused(headers | {name: ""}) == (400, "bad_header", name)
        assert await refused(headers | {name: "!" * 200}) == (400, "bad_header", name)

    async def test_an_address_alone_proves_nothing(self, wallet, refused):
        """Whoever knows an address could send it; so could they send a signature of the old kind, over something else."""
        headers = {"Address": wallet.key.address, "Fee": "1000", "Nonce": "17000000000000040"}
        assert await refused(headers) == (401, "request_signature", "Signature")
        old = wallet.headers(ASKED) | {"Signature": str([1] * 64)}
        assert await refused(old) == (400, "bad_header", "Signature")


class TestMoney:
    async def test_too_little_in_the_sub_account(self, aos_rest, requests, wallet, refused):
        """What is free has to cover the answer; what is on its way back is not free."""
        found = await aos_rest.broker.GetSubAccount(GetSubAccountRequest(provider=wallet.provider, service="inference"))
        assert int(found.balance) > 0
        await aos_rest.broker.RetrieveFund(RetrieveFundRequest(providers=[wallet.provider], service="inference"))
        status, code, _ = await refused(wallet.headers(ASKED))
        assert (status, code) == (402, "insufficient_quota")
        # transferring keeps what is on its way back
        await a_wallet(aos_rest, requests, funds=int(found.balance))

    async def test_a_signer_that_was_not_acknowledged(self):
        """A provider that could not be paid is not put to work."""
        async with running_aos(envoy=True, clock=SystemClock()) as network, channel(network.address, network.token) as opened:
            made = await a_wallet(network, RequestsStub(opened), acknowledged=False)
            async with httpx.AsyncClient(base_url=network.url, timeout=20) as client:
                error = (await client.post(PATH, json=ASKED, headers=made.headers(ASKED))).json()["error"]
        assert (error["code"], error["param"]) == ("signer_not_acknowledged", "X-AOS-Provider")


class TestDevelopment:
    async def test_nobody_need_sign_where_nobody_needs_a_token(self):
        """In loopback dev mode a request without a signature is the open project's, and its answer signed as any."""
        async with (
            running_aos(envoy=True, clock=SystemClock(), open_to_all=True) as network,
            httpx.AsyncClient(base_url=network.url, timeout=20) as client,
        ):
            reply = await client.post(PATH, json=ASKED, headers={"authorization": "Bearer anything"})
            assert reply.status_code == 200
            assert (await client.get(f"/v1/proxy/signature/{reply.headers['zg-res-key']}")).status_code == 200
            # a signature that is there is checked all the same
            bad = Wallet("accounts/demo", network.operators[0], OperatorKey.create(), now=0).headers(ASKED)
            assert (await client.post(PATH, json=ASKED, headers=bad)).status_code == 403
