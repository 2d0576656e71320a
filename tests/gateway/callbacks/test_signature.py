from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest

from gateway.callbacks.signature import NoSecret, load_secret, sign


def test_a_signature_is_of_call_status_time_and_body() -> None:
    expected = hmac.new(b"key", b"id-1.200.1767225600.the body", hashlib.sha256).hexdigest()
    assert sign(b"key", "id-1", "200", 1767225600, [b"the ", b"body"]) == f"sha256={expected}"
    assert sign(b"key", "id-1", "500", 1767225600, [b"the body"]) != f"sha256={expected}"
    assert sign(b"key", "id-1", "200", 1767225601, [b"the body"]) != f"sha256={expected}"


def test_the_secret_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    secret = load_secret(tmp_path)
    assert len(secret) == 64
    assert load_secret(tmp_path) == secret
    assert (tmp_path / "callback-secret").stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["callback-secret"]


def test_a_secret_of_ones_own_is_read_and_never_made(tmp_path: Path) -> None:
    file = tmp_path / "mounted"
    with pytest.raises(NoSecret, match=r"mounted cannot be used: No such file"):
        load_secret(tmp_path, file)
    file.write_bytes(b" s3cret\n")
    assert load_secret(tmp_path, file) == b"s3cret"
    file.write_bytes(b"\n")
    with pytest.raises(NoSecret, match="mounted is empty"):
        load_secret(tmp_path, file)
