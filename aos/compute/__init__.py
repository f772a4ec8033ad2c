"""The compute network as its customers know it: ``create_broker`` gives ``ledger``, ``inference`` and ``fine_tuning``."""

from aos.compute.broker import ComputeBroker, create_broker, createZGComputeNetworkBroker
from aos.compute.inference import ServiceMetadata
from aos.compute.inference_check import Verification
from aos.compute.money import Amount, coins, neurons
from aos.compute.shapes import Account, Ledger, Movement, Refund, Retrieved, Service, Statement

__all__ = [
    "Account",
    "Amount",
    "ComputeBroker",
    "Ledger",
    "Movement",
    "Refund",
    "Retrieved",
    "Service",
    "ServiceMetadata",
    "Statement",
    "Verification",
    "coins",
    "createZGComputeNetworkBroker",
    "create_broker",
    "neurons",
]
