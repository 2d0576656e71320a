from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.callbacks.addresses import Allowed, InvalidAllowance, is_loopback, is_public, literal

PUBLIC = Allowed(["public"])
HERE = Allowed(["public", "loopback"])


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.1.2.3",
        "172.31.0.1",
        "192.168.1.1",
        "169.254.169.254",  # metadata
        "100.100.100.200",  # metadata
        "192.0.0.192",  # metadata
        "168.63.129.16",  # metadata
        "fd00:ec2::254",  # metadata
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fec0::1",
        "fc00::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",  # mapped
        "::ffff:169.254.169.254",
        "::127.0.0.1",  # compatible
        "::ffff:0:127.0.0.1",  # translated
        "64:ff9b::127.0.0.1",  # NAT64
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:1",  # NAT64 of one's own
        "2002:7f00:1::",  # 6to4 of 127.0.0.1
        "2002:c0a8:101::1",  # 6to4 of 192.168.1.1
        "2001:0:4136:e378:8000:63bf:80ff:fffe",  # Teredo
        "2a00:1450::5efe:10.0.0.1",  # ISATAP
        "2a00:1450::200:5efe:7f00:1",
    ],
)
def test_what_not_everybody_reaches_is_not_public(address: str) -> None:
    assert not PUBLIC.address(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"],
)
def test_what_everybody_reaches_is_public(address: str) -> None:
    assert PUBLIC.address(ipaddress.ip_address(address))


def test_loopback_does_not_open_what_is_beside_it() -> None:
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        assert HERE.address(ipaddress.ip_address(address))
        assert is_loopback(ipaddress.ip_address(address))
    for address in ("169.254.169.254", "fe80::1", "192.168.0.1", "0.0.0.0", "::"):
        assert not HERE.address(ipaddress.ip_address(address))
        assert not is_loopback(ipaddress.ip_address(address))


def test_networks_are_opened_also_in_other_clothes() -> None:
    allowed = Allowed(["10.0.0.0/8", "fd12::1", "169.254.7.7"])
    for address in ("10.9.9.9", "::ffff:10.9.9.9", "64:ff9b::10.9.9.9", "fd12::1", "169.254.7.7"):
        assert allowed.address(ipaddress.ip_address(address)), address
    for address in ("11.0.0.1", "fd12::2", "169.254.7.8", "8.8.8.8", "2002:a00:1::"):
        assert not allowed.address(ipaddress.ip_address(address)), address


def test_names_are_exact_or_domains() -> None:
    allowed = Allowed(["hooks.example.com", "*.intern.example", "gateway"])
    assert all(allowed.names(host) for host in ("hooks.example.com", "a.intern.example", "a.b.intern.example", "gateway"))
    assert not any(allowed.names(host) for host in ("example.com", "intern.example", "evilintern.example", "a.gateway", ""))
    assert not allowed.resolves("other.example")
    assert PUBLIC.resolves("other.example")
    assert Allowed(["*"]).names("anything")
    assert Allowed(["*"]).address(ipaddress.ip_address("169.254.169.254"))


@pytest.mark.parametrize("word", ["", "10.0.0.0/33", "300.1.1.1", "*.*.com", "a b", "http://x", "x:80", "-x"])
def test_words_that_are_none(word: str) -> None:
    with pytest.raises(InvalidAllowance, match="a network such as"):
        Allowed([word])


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1", "::ffff:127.0.0.1", "0:0:0:0:0:0:0:1"]
)
def test_an_address_is_known_in_all_its_spellings(host: str) -> None:
    address = literal(host)
    assert address is not None
    assert is_loopback(address)


@pytest.mark.parametrize("host", ["localhost", "example.com", "a.1.2.3.4", "", "1.2.3.4 x"])
def test_names_are_no_addresses(host: str) -> None:
    assert literal(host) is None


@given(st.ip_addresses(v=4))
def test_no_clothing_opens_an_address(inner: ipaddress.IPv4Address) -> None:
    number = int(inner)
    for clothes in ("::ffff:0:0", "::ffff:0:0:0", "64:ff9b::"):
        dressed = ipaddress.IPv6Address(int(ipaddress.IPv6Address(clothes)) + number)
        assert PUBLIC.address(dressed) == PUBLIC.address(inner)
    for dressed in (
        ipaddress.IPv6Address((0x2002 << 112) + (number << 80) + 1),
        ipaddress.IPv6Address(int(ipaddress.IPv6Address("2a00:1450::5efe:0:0")) + number),
    ):
        assert PUBLIC.address(dressed) == PUBLIC.address(inner)


@given(st.ip_addresses())
def test_public_is_never_more_than_what_python_calls_global(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    clothed = isinstance(address, ipaddress.IPv6Address) and (address.sixtofour or address.ipv4_mapped)
    if is_public(address) and not clothed:
        assert address.is_global or address in ipaddress.ip_network("64:ff9b::/96") or int(address) >> 32 == 0
