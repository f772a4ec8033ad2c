# pragma version ~=0.4.3
"""
@title Wallet
@notice A user who is a contract: it writes to storage when it is paid, and calls back if it is told to.
"""

received: public(uint256)
answer: Bytes[1024]
tried: public(bool)
succeeded: public(bool)


@external
@payable
def __default__():
    self.received += msg.value
    if len(self.answer) > 0:
        self.tried = True
        self.succeeded = raw_call(msg.sender, self.answer, revert_on_failure=False)


@external
@payable
def run(target: address, data: Bytes[4096], amount: uint256):
    raw_call(target, data, value=amount)


@external
def call_back(data: Bytes[1024]):
    self.answer = data
