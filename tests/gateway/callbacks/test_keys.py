"""Which keys sign: looked up seldom, as they are now, and never another's."""

from __future__ import annotations

import pytest

from gateway.callbacks.keys import KNOWN_S, MOST_KEYS, MOST_KNOWN, Keys, NoSecret, keys_of
from orchestration.orchestrator import NotFound, NotNow, Refused


class Secrets:
    def __init__(self) -> None:
        self.value: bytes | Exception = b"one"
        self.asked: list[tuple[str, str]] = []
        self.now = 0.0
        self.keys = Keys((b"own",), self.read, lambda: self.now)

    async def read(self, namespace: str, name: str) -> bytes:
        self.asked.append((namespace, name))
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


async def test_who_names_none_has_the_platforms_own() -> None:
    secrets = Secrets()
    assert await secrets.keys.of("ns", "") == (b"own",)
    assert secrets.asked == []


async def test_a_new_value_is_seen_after_a_moment_and_no_sooner_asked_for() -> None:
    secrets = Secrets()
    assert await secrets.keys.of("ns", "hooks") == (b"one",)
    secrets.value = b"two\none"
    secrets.now = KNOWN_S - 0.1
    assert await secrets.keys.of("ns", "hooks") == (b"one",)
    secrets.now = KNOWN_S
    assert await secrets.keys.of("ns", "hooks") == (b"two", b"one")
    assert await secrets.keys.of("other", "hooks") == (b"two", b"one")
    assert secrets.asked == [("ns", "hooks"), ("ns", "hooks"), ("other", "hooks")]


async def test_while_nobody_answers_the_last_keys_hold() -> None:
    secrets = Secrets()
    await secrets.keys.of("ns", "hooks")
    secrets.value, secrets.now = NotNow("the API server does not answer"), 3600.0
    assert await secrets.keys.of("ns", "hooks") == (b"one",)
    with pytest.raises(NoSecret, match="does not answer"):
        await secrets.keys.of("ns", "never-read")


@pytest.mark.parametrize("error", [NotFound("there is no secret 'hooks'"), Refused("forbidden")])
async def test_what_is_gone_or_not_allowed_is_not_taken_from_memory(error: Exception) -> None:
    secrets = Secrets()
    await secrets.keys.of("ns", "hooks")
    secrets.value, secrets.now = error, KNOWN_S
    for _ in range(2):
        with pytest.raises(NoSecret, match=str(error)):
            await secrets.keys.of("ns", "hooks")


async def test_so_many_secrets_are_remembered() -> None:
    secrets = Secrets()
    for number in range(MOST_KNOWN + 10):
        await secrets.keys.of("ns", f"s{number}")
    assert len(secrets.keys._known) == MOST_KNOWN
    secrets.asked.clear()
    await secrets.keys.of("ns", f"s{MOST_KNOWN + 9}")
    assert secrets.asked == []


def test_a_key_is_a_line() -> None:
    assert keys_of(b" new \r\n\nold\n", "it") == (b"new", b"old")
    with pytest.raises(NoSecret, match="it is empty"):
        keys_of(b" \n", "it")
    with pytest.raises(NoSecret, match=f"it has {MOST_KEYS + 1} lines: at most {MOST_KEYS} keys"):
        keys_of(b"k\n" * (MOST_KEYS + 1), "it")
