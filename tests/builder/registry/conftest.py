"""What tests of the registry client share: a registry in this process, and a client of it that does not wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from builder.registry.authorization import Authorization
from builder.registry.client import Registry
from builder.registry.credentials import Credentials
from builder.registry.transport import Transport
from tests.builder.registry.fake_registry import FakeRegistry, fake_registry

Connect = Callable[..., Registry]


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    with fake_registry() as server:
        yield server


@pytest.fixture
def pauses() -> list[float]:
    """The pauses that the client made."""
    return []


@pytest.fixture
def connect(server: FakeRegistry, pauses: list[float]) -> Iterator[Connect]:
    """Make a client of the registry with a login, or None."""
    with Transport(silence_s=5.0) as transport:

        def make(login: Credentials | None = None, chunk_bytes: int = 1 << 20) -> Registry:
            authorization = Authorization(server.host, transport, lambda: login, plain=True)
            return Registry(
                server.host,
                transport,
                authorization=authorization,
                chunk_bytes=chunk_bytes,
                sleep=pauses.append,
                environment={},
            )

        yield make
