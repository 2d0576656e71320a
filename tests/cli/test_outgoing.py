from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from cli.outgoing import CannotSign, default_allowed, outgoing
from cli.settings import InvalidServeSetting, ServeSettings, load
from gateway.callbacks.target import InvalidCallback


async def hooks(namespace: str, name: str) -> bytes:
    assert (namespace, name) == ("openfaas-fn", "hooks")
    return b"the function's"


HERE = "http://127.0.0.1:9000/done"


@pytest.mark.parametrize(
    ("host", "orchestration", "allowed"),
    [
        ("127.0.0.1", "local", ("public", "loopback")),
        ("::1", "local", ("public", "loopback")),
        ("localhost", "local", ("public", "loopback")),
        ("0.0.0.0", "local", ("public",)),
        ("::", "local", ("public",)),
        ("192.168.1.5", "local", ("public",)),
        ("gateway.example", "local", ("public",)),
        ("127.0.0.1", "kubernetes", ("public",)),
    ],
)
def test_loopback_is_open_to_who_is_on_this_machine_already(host: str, orchestration: str, allowed: tuple[str, ...]) -> None:
    assert default_allowed(ServeSettings(host=host, orchestration=orchestration)) == allowed


async def test_a_list_replaces_the_default(tmp_path: Path) -> None:
    settings = ServeSettings(data_dir=str(tmp_path))
    async with outgoing(settings, hooks) as sending:
        sending.guard.check(HERE)
        (key,) = await sending.keys.of("openfaas-fn", "")
        assert (len(key), sending.retry_for_s) == (64, 3600)
    async with outgoing(dataclasses.replace(settings, callback_allow=("hooks.example.com",)), hooks) as sending:
        sending.guard.check("https://hooks.example.com/")
        for url in (HERE, "https://example.com/"):
            with pytest.raises(InvalidCallback):
                sending.guard.check(url)


async def test_a_secret_of_ones_own_is_used_and_must_be_there(tmp_path: Path) -> None:
    settings = ServeSettings(data_dir=str(tmp_path), callback_secret=str(tmp_path / "own"))
    with pytest.raises(CannotSign, match=r"own cannot be used: No such file"):
        async with outgoing(settings, hooks):
            pass
    (tmp_path / "own").write_text("s3cret\n")
    async with outgoing(settings, hooks) as sending:
        assert await sending.keys.of("openfaas-fn", "") == (b"s3cret",)
        assert await sending.keys.of("openfaas-fn", "hooks") == (b"the function's",)
    assert not (tmp_path / "callback-secret").exists()


def test_settings_of_callbacks_are_looked_at_early() -> None:
    assert load({"callback_allow": "public, 10.0.0.0/8"}, {}).callback_allow == ("public", "10.0.0.0/8")
    with pytest.raises(InvalidServeSetting, match=r"callback_allow: '10\.0\.0\.0/99': public, loopback, a network such as"):
        load({"callback_allow": "10.0.0.0/99"}, {})
    with pytest.raises(InvalidServeSetting, match="callback_retry_for: more than 0"):
        load({"callback_retry_for_s": "0"}, {})
