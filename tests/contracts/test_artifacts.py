from __future__ import annotations

import re

import pytest
from eth_account._utils.encode_typed_data.encoding_and_hashing import hash_domain

from aos.chain.artifacts import CONTRACTS, artifact
from aos.verification.receipts import FIELDS
from aos.verification.wallets import FINE_TUNING, INFERENCE, Contract
from tests.contracts.world import World
from tools.contracts import ARTIFACTS, SOURCES, compile_contract, written

REASON = re.compile(r""", "[a-z-]+: [a-zA-Z0-9 .'-]+"$""")
LARGEST = 24_576
"""Bytes of a contract's code, EIP-170."""


class TestArtifacts:
    @pytest.mark.parametrize("name", CONTRACTS)
    def test_they_are_what_their_sources_make(self, name):
        """Compiled again, each contract has the shipped ABI and code, byte for byte."""
        assert written(compile_contract(name)) == (ARTIFACTS / f"{name}.json").read_text()

    def test_they_fit_on_a_chain(self, world: World):
        """No deployed contract is larger than chains take."""
        for contract in (world.ledger, world.inference, world.tuning):
            assert 0 < len(world.web3.eth.get_code(contract.address)) <= LARGEST

    def test_no_source_is_long(self):
        """A source answers one question, in at most 400 lines, like every other file."""
        lengths = {source.name: len(source.read_text().splitlines()) for source in SOURCES.glob("*.vy")}
        assert {name: length for name, length in lengths.items() if length > 400} == {}
        assert len(lengths) > len(CONTRACTS)

    def test_reasons_name_their_module(self):
        """Whatever is refused is refused with `module: sentence`, so that a program can tell refusals apart."""
        for source in SOURCES.glob("*.vy"):
            for line in source.read_text().splitlines():
                if line.strip().startswith("assert ") and not line.rstrip().endswith("("):
                    assert REASON.search(line), f"{source.name}: {line}"

    def test_documented_structs_are_field_for_field(self):
        """Ledger, Service, Account, Deliverable, Quota and Refund have the documented fields in their order, ours behind them."""
        refund = ["index", "amount", "createdAt", "processed"]
        expected = {
            ("Ledger", "getLedger"): [
                "user", "availableBalance", "totalBalance", "inferenceSigner", "additionalInfo", "inferenceProviders",
                "fineTuningProviders",
            ],
            ("InferenceServing", "getService"): [
                "provider", "name", "serviceType", "url", "inputPrice", "outputPrice", "updatedAt", "model", "verifiability",
            ],
            ("InferenceServing", "getAccount"): [
                "user", "provider", "nonce", "balance", "pendingRefund", "signer", "refunds", "additionalInfo", "providerSigner",
            ],
            ("FineTuningServing", "getService"): [
                "provider", "name", "url", "quota", "pricePerToken", "providerSigner", "occupied",
            ],
            ("FineTuningServing", "getAccount"): [
                "user", "provider", "nonce", "balance", "pendingRefund", "refunds", "additionalInfo", "providerSigner",
                "deliverables",
            ],
            ("FineTuningServing", "getDeliverable"): ["modelRootHash", "encryptedSecret", "acknowledged"],
            ("InferenceServing", "getRefunds"): refund,
            ("FineTuningServing", "getRefunds"): refund,
        }  # fmt: skip
        for (contract, function), fields in expected.items():
            [entry] = [entry for entry in artifact(contract).abi if entry.get("name") == function]
            assert [field["name"] for field in entry["outputs"][0]["components"]] == fields, function
        [service] = [entry for entry in artifact("FineTuningServing").abi if entry.get("name") == "getService"]
        [quota] = [field for field in service["outputs"][0]["components"] if field["name"] == "quota"]
        assert [field["name"] for field in quota["components"]] == ["cpuCount", "nodeMemory", "gpuCount", "nodeStorage", "gpuType"]


class TestDomains:
    def test_contracts_and_wallets_agree_on_them(self, world: World):
        """What a wallet signs for a contract is in the domain that it shows; the receipt's struct is the operators' own."""
        for contract, name in ((world.inference, INFERENCE), (world.tuning, FINE_TUNING)):
            where = Contract(name, world.anvil.chain_id, contract.address)
            assert contract.functions.domainSeparator().call() == hash_domain(where.domain)
        signed = ",".join(f"{type_} {name}" for name, type_ in FIELDS)
        assert f'"Receipt({signed})"' in (SOURCES / "batches.vy").read_text()
