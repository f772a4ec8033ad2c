"""Which URLs of strangers are called."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from aos.addresses import LOOPBACK, check_addresses, check_url, is_in, may_call, read_networks
from aos.errors import InvalidField


class TestAddresses:
    @pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "2002:0101:0101::1"])
    def test_public_ones_may_be_called(self, address):
        """The whole internet, also in IPv6's ways to write IPv4."""
        assert may_call(ip_address(address))

    @pytest.mark.parametrize(
        "address",
        [
            "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
            "100.64.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "239.1.1.1", "192.0.2.1", "198.18.0.1", "240.0.0.1",
            "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "ff0e::1", "2001:db8::1", "::ffff:127.0.0.1",
            "::ffff:169.254.169.254", "2002:7f00:0001::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
            "2001:0:4136:e378:8000:63bf:80ff:fffe",
        ],
    )  # fmt: skip
    def test_all_others_may_not(self, address):
        """Loopback, private, link-local and with it the clouds' metadata, multicast, reserved; in all their disguises."""
        assert not may_call(ip_address(address))

    def test_settings_allow_more(self):
        """A network that settings name is called; others still are not."""
        assert may_call(ip_address("127.0.0.1"), LOOPBACK)
        assert may_call(ip_address("::1"), LOOPBACK)
        assert may_call(ip_address("::ffff:127.0.0.1"), LOOPBACK)
        assert not may_call(ip_address("169.254.169.254"), LOOPBACK)

    def test_one_inner_address_among_outer_ones(self):
        """A name that leads to both is refused: the next look could give the inner one."""
        with pytest.raises(InvalidField, match=r"10\.0\.0\.1"):
            check_addresses("http://x", [ip_address("1.1.1.1"), ip_address("10.0.0.1")], "url")

    def test_no_address(self):
        """A name that leads nowhere is refused."""
        with pytest.raises(InvalidField, match="leads nowhere"):
            check_addresses("http://x", [], "url")


class TestNetworksAlone:
    @pytest.mark.parametrize("address", ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1"])
    def test_this_machine(self, address):
        """However it is written."""
        assert is_in(ip_address(address), LOOPBACK)

    @pytest.mark.parametrize(
        "address", ["8.8.8.8", "10.0.0.1", "0.0.0.0", "2002:7f00:1::", "64:ff9b::7f00:1", "::", "::ffff:8.8.8.8"]
    )
    def test_elsewhere(self, address):
        """Public addresses, too, and those that tunnel to this machine's: where they lead is for others to say."""
        assert not is_in(ip_address(address), LOOPBACK)


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "host", "port", "path", "authority"),
        [
            ("http://example.com", "example.com", 80, "/", "example.com"),
            ("https://example.com:8443/a?b=c#d", "example.com", 8443, "/a?b=c", "example.com:8443"),
            ("HTTPS://Example.COM./", "example.com", 443, "/", "example.com"),
            ("http://[2606:4700::1111]:81/", "2606:4700::1111", 81, "/", "[2606:4700::1111]:81"),
        ],
    )
    def test_where_it_leads(self, url, host, port, path, authority):
        """Host, port and path are what a browser would take; the fragment stays at home."""
        target = check_url(url, "callback")
        assert (target.host, target.port, target.path, target.authority) == (host, port, path, authority)

    def test_at_an_address(self):
        """The address takes the name's place, in brackets if it is of IPv6."""
        target = check_url("https://example.com/a", "callback")
        assert target.at(ip_address("1.1.1.1")) == "https://1.1.1.1:443/a"
        assert target.at(ip_address("2606::1")) == "https://[2606::1]:443/a"

    @pytest.mark.parametrize(
        "url",
        [
            "", "x" * 2049, "ftp://example.com", "file:///etc/passwd", "gopher://example.com", "//example.com", "example.com",
            "http://", "http:///path", "http://user@example.com", "http://user:secret@example.com", "http://exa mple.com",
            "http://example.com\\@10.0.0.1", "http://example.com\r\nx: y", "http://exämple.com", "http://example.com:0",
            "http://example.com:99999", "http://example.com:x", "http://[::1", "http://[fe80::1%25eth0]/", "http://127.0.0.1",
            "http://localhost", "http://a.localhost:80", "http://[::1]/", "http://169.254.169.254/latest", "http://[::ffff:10.0.0.1]",
        ],
    )  # fmt: skip
    def test_refused(self, url):
        """Other schemes, users, what readers of URLs disagree about, and addresses that are not public."""
        with pytest.raises(InvalidField) as refused:
            check_url(url, "callback")
        assert refused.value.facts["field"] == "callback"


class TestNetworks:
    def test_read(self):
        """Networks and single addresses."""
        assert read_networks(["10.0.0.0/8", "::1"], "x") == (ip_network("10.0.0.0/8"), ip_network("::1/128"))

    @pytest.mark.parametrize("texts", [["10.0.0.1/8"], ["nonsense"], [""], ["1.1.1.1"] * 65])
    def test_refused(self, texts):
        """What is no network is refused with the setting's name."""
        with pytest.raises(ValueError, match=r"^allow-callback: "):
            read_networks(texts, "allow-callback")
