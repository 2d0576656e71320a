"""What connections share."""

from __future__ import annotations

import re

import pytest

from gateway.edge.context import CallIds, EdgeContext
from gateway.edge.settings import EdgeSettings


def test_call_ids_look_like_uuids_and_differ() -> None:
    one, other = CallIds(), CallIds()
    made = [ids.marks() for ids in (one, other) for _ in range(1000)]
    assert len(set(made)) == 2000
    marks = rb"X-Call-Id: [0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\r\nX-Start-Time: [0-9]{19}\r\n"
    assert all(re.fullmatch(marks, mark) for mark in made)
    assert one.marks(b"mine").startswith(b"X-Call-Id: mine\r\nX-Start-Time: ")


@pytest.mark.parametrize(
    ("networks", "address", "trusted"),
    [
        ((), "127.0.0.1", False),
        (("127.0.0.0/8",), "127.0.0.1", True),
        (("10.0.0.0/8", "127.0.0.1"), "127.0.0.1", True),
        (("10.0.0.0/8",), "127.0.0.1", False),
        (("10.0.0.0/8",), "::ffff:10.1.2.3", True),
        (("fe80::/10",), "fe80::1%eth0", True),
        (("10.0.0.0/8",), "::1", False),
        (("10.0.0.0/8",), "", False),
    ],
)
def test_trust_is_by_network(networks: tuple[str, ...], address: str, trusted: bool) -> None:
    assert EdgeContext(EdgeSettings(trusted_proxies=networks), lambda: 0.0).trusts(address) is trusted


def test_a_network_that_is_none_is_refused_at_start() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        EdgeContext(EdgeSettings(trusted_proxies=("nonsense",)), lambda: 0.0)
