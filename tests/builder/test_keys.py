from __future__ import annotations

import base64
from pathlib import Path

from nacl.public import PrivateKey, PublicKey, SealedBox

from builder.disk import locked_file
from builder.keys import BuilderKey


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    key = BuilderKey(tmp_path).public()
    assert BuilderKey(tmp_path).public() == key
    assert (tmp_path / "builder.key").stat().st_mode & 0o777 == 0o600
    assert key.algorithm == "nacl/box"
    assert key.public_key.startswith(key.key_id)
    assert len(key.key_id) == 8


def test_nobody_who_asks_for_the_key_waits_for_the_store(tmp_path: Path) -> None:
    with locked_file(tmp_path / "store.lock"):
        assert BuilderKey(tmp_path).public() == BuilderKey(tmp_path).public()


def test_of_two_who_make_the_key_one_wins(tmp_path: Path) -> None:
    BuilderKey(tmp_path)._make(b"first")
    BuilderKey(tmp_path)._make(b"second")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("builder.key", b"first")]


def test_what_is_encrypted_to_it_can_be_read_with_the_file(tmp_path: Path) -> None:
    public = PublicKey(base64.b64decode(BuilderKey(tmp_path).public().public_key))
    private = PrivateKey(base64.b64decode((tmp_path / "builder.key").read_bytes()))
    assert SealedBox(private).decrypt(SealedBox(public).encrypt(b"secret")) == b"secret"
