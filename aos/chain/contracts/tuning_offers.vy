# pragma version ~=0.4.3
# pragma nonreentrancy on
"""
@title Fine-tuning offers
@notice Which provider trains, on what machine, at what price.
@dev A module. It holds no money.
"""

struct Quota:
    cpuCount: uint256
    nodeMemory: uint256
    gpuCount: uint256
    nodeStorage: uint256
    gpuType: String[MAX_NAME]

struct Service:
    provider: address
    name: String[MAX_NAME]
    url: String[MAX_URL]
    quota: Quota
    pricePerToken: uint256
    providerSigner: address
    occupied: bool

event ServiceUpdated:
    provider: indexed(address)
    service: indexed(bytes32)
    name: String[MAX_NAME]
    url: String[MAX_URL]
    quota: Quota
    pricePerToken: uint256
    providerSigner: address
    occupied: bool

event ServiceRemoved:
    provider: indexed(address)
    service: indexed(bytes32)

MAX_NAME: constant(uint256) = 64
MAX_URL: constant(uint256) = 256
MAX_PAGE: constant(uint256) = 20

services: HashMap[bytes32, Service]
# Its place in the list, from 1; 0: there is no such service.
service_place: HashMap[bytes32, uint256]
service_keys: DynArray[bytes32, max_value(uint64)]


@external
def addOrUpdateService(
    name: String[MAX_NAME],
    url: String[MAX_URL],
    quota: Quota,
    pricePerToken: uint256,
    providerSigner: address,
    occupied: bool,
):
    """
    @notice Offer a service under this name, or change it. The price is in neurons a token and epoch.
    """
    assert providerSigner != empty(address), "accounts: address zero"
    service: bytes32 = self._service_key(msg.sender, name)
    if self.service_place[service] == 0:
        self.service_keys.append(service)
        self.service_place[service] = len(self.service_keys)
    self.services[service] = Service(
        provider=msg.sender,
        name=name,
        url=url,
        quota=quota,
        pricePerToken=pricePerToken,
        providerSigner=providerSigner,
        occupied=occupied,
    )
    log ServiceUpdated(
        provider=msg.sender,
        service=service,
        name=name,
        url=url,
        quota=quota,
        pricePerToken=pricePerToken,
        providerSigner=providerSigner,
        occupied=occupied,
    )


@external
def removeService(name: String[MAX_NAME]):
    service: bytes32 = self._service_key(msg.sender, name)
    place: uint256 = self.service_place[service]
    assert place != 0, "fine-tuning: no such service"
    last: bytes32 = self.service_keys.pop()
    if last != service:
        self.service_keys[place - 1] = last
        self.service_place[last] = place
    self.service_place[service] = 0
    log ServiceRemoved(provider=msg.sender, service=service)


@external
@view
def getService(provider: address, name: String[MAX_NAME]) -> Service:
    service: bytes32 = self._service_key(provider, name)
    assert self.service_place[service] != 0, "fine-tuning: no such service"
    return self.services[service]


@external
@view
def getAllServices(offset: uint256, limit: uint256) -> (DynArray[Service, MAX_PAGE], uint256):
    """
    @notice A page of services, at most 20, and how many there are.
    """
    count: uint256 = len(self.service_keys)
    page: DynArray[Service, MAX_PAGE] = []
    for step: uint256 in range(MAX_PAGE):
        if step >= limit or offset >= count or step >= count - offset:
            break
        page.append(self.services[self.service_keys[offset + step]])
    return page, count


@external
@view
def quoteFee(provider: address, name: String[MAX_NAME], tokens: uint256, epochs: uint256) -> uint256:
    """
    @notice What training on this many tokens, this many times, costs, in neurons.
    """
    service: bytes32 = self._service_key(provider, name)
    assert self.service_place[service] != 0, "fine-tuning: no such service"
    return self.services[service].pricePerToken * tokens * epochs


@internal
@pure
def _service_key(provider: address, name: String[MAX_NAME]) -> bytes32:
    return keccak256(abi_encode(provider, name))
