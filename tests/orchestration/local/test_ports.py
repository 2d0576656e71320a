from __future__ import annotations

import contextlib
import os
import socket

import pytest

from orchestration.local import ports
from orchestration.local.ports import FIRST_PORT, NoFreePort, Ports, owner


def test_each_replica_gets_another_port_that_is_free() -> None:
    giver = Ports()
    given = [giver.free() for _ in range(50)]
    assert len(set(given)) == 50
    assert min(given) >= FIRST_PORT


def test_a_port_that_is_taken_is_left_out() -> None:
    giver = Ports()
    first = giver.free()
    with socket.socket() as other:
        other.bind(("127.0.0.1", first + 1))
        assert giver.free() != first + 1


def test_when_all_are_taken_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "FIRST_PORT", 64_000)
    monkeypatch.setattr(ports, "_first_ephemeral", lambda: 0)
    giver = Ports()
    with contextlib.ExitStack() as held:
        for _ in range(1000):
            taken = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                taken.bind(("", giver.free()))
        refused = pytest.raises(NoFreePort, match=r"no TCP port from 64000 to 64999 is free")
        with refused:
            giver.free()


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_owner_is_who_listens(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as listener:
        try:
            listener.bind((address, 0))
        except OSError:
            pytest.skip(f"no {family.name} here")
        port = listener.getsockname()[1]
        assert owner(port) is None
        listener.listen()
        assert owner(port) == os.geteuid()
    assert owner(port) is None


def test_ports_lie_below_those_of_outgoing_connections() -> None:
    first_ephemeral = int(ports.EPHEMERAL.read_text().split()[0])
    assert Ports().free() < max(FIRST_PORT + 1000, first_ephemeral)
