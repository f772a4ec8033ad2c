"""Envoy with TLS: for REST and gRPC on one port, with and without clients' certificates."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from pathlib import Path

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from aos.v1.dispatcher_pb2 import GetJobRequest
from aos.v1.dispatcher_pb2_grpc import DispatcherStub
from gateway.envoy.run import EnvoyError, EnvoySettings, running_envoy
from tests.gateway import scripted_network as scripted
from tests.gateway.conftest import running_edge


class Authority:
    """Signs certificates for this machine."""

    def __init__(self, folder: Path, name: str) -> None:
        self._key, self._folder = ec.generate_private_key(ec.SECP256R1()), folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = folder / f"{name}.pem"
        self.certificate.write_bytes(self._signed(self._name, self._key, authority=True))

    def signed(self, name: str) -> tuple[Path, Path]:
        """Return the files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        files = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        files[0].write_bytes(self._signed(subject, key, authority=False))
        plain = serialization.NoEncryption()
        files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
        return files

    def _signed(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool) -> bytes:
        now = dt.datetime.now(dt.UTC)
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "authority")


def trusting(authority: Authority, own: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if own is not None:
        context.load_cert_chain(*own)
    return context


class TestTls:
    async def test_rest_and_grpc_are_on_the_port(self, authority):
        """Both are there with TLS, links say https, and plain HTTP is not answered."""
        certificate, key = authority.signed("server")
        async with running_edge(certificate=certificate, private_key=key) as edge:
            async with httpx.AsyncClient(
                verify=trusting(authority), headers={"authorization": f"Bearer {scripted.TOKEN}"}
            ) as client:
                reply = await client.get(f"https://127.0.0.1:{edge.port}/v1/models")
                with pytest.raises(httpx.TransportError):
                    await client.get(f"http://127.0.0.1:{edge.port}/v1/models")
            credentials = grpc.ssl_channel_credentials(authority.certificate.read_bytes())
            async with grpc.aio.secure_channel(f"localhost:{edge.port}", credentials) as opened:
                call = DispatcherStub(opened).GetJob(
                    GetJobRequest(name="jobs/none"), metadata=(("authorization", f"Bearer {scripted.TOKEN}"),), timeout=20
                )
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
        assert reply.status_code == 200
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND

    async def test_old_versions_are_refused(self, authority):
        """TLS 1.1 and below are not spoken."""
        certificate, key = authority.signed("server")
        old = trusting(authority)
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        async with running_edge(certificate=certificate, private_key=key) as edge, httpx.AsyncClient(verify=old) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"https://127.0.0.1:{edge.port}/v1/models")

    async def test_clients_show_who_they_are_if_asked(self, authority, tmp_path):
        """With authorities for clients, a certificate of theirs is let in, none and a stranger's are not."""
        certificate, key = authority.signed("server")
        (tmp_path / "elsewhere").mkdir()
        stranger = Authority(tmp_path / "elsewhere", "stranger")
        shown = {"mine": authority.signed("client"), "none": None, "theirs": stranger.signed("client")}
        said = {}
        async with running_edge(certificate=certificate, private_key=key, client_ca=authority.certificate) as edge:
            for name, own in shown.items():
                async with httpx.AsyncClient(verify=trusting(authority, own)) as client:
                    try:
                        said[name] = (await client.get(f"https://127.0.0.1:{edge.port}/healthz")).status_code
                    except (httpx.TransportError, ssl.SSLError):  # TLS 1.3 says it with the first answer
                        said[name] = 0
        assert said == {"mine": 200, "none": 0, "theirs": 0}

    async def test_a_certificate_that_is_not_there_stops_it(self, authority):
        """Envoy does not start without what it is told to show."""
        settings = EnvoySettings(upstream="nowhere", certificate=Path("no-such.pem"), private_key=Path("no-such.key"))
        with pytest.raises(EnvoyError, match=r"no-such\.key"):
            async with running_envoy(settings):
                pass
