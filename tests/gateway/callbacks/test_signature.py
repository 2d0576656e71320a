from __future__ import annotations

import hashlib
import hmac
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.callbacks.keys import NoSecret
from gateway.callbacks.signature import load_secret, sign


def test_a_signature_is_of_call_status_time_and_body() -> None:
    expected = hmac.new(b"key", b"id-1.200.1767225600.the body", hashlib.sha256).hexdigest()
    assert sign([b"key"], "id-1", "200", 1767225600, [b"the ", b"body"]) == f"sha256={expected}"
    assert sign([b"other", b"key"], "id-1", "200", 1767225600, [b"the body"]).split()[1:] == [f"sha256={expected}"]
    assert sign([b"key"], "id-1", "500", 1767225600, [b"the body"]) != f"sha256={expected}"
    assert sign([b"key"], "id-1", "200", 1767225601, [b"the body"]) != f"sha256={expected}"


def test_the_secret_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    (key,) = load_secret(tmp_path)
    assert len(key) == 64
    assert load_secret(tmp_path) == (key,)
    assert (tmp_path / "callback-secret").stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["callback-secret"]


def test_a_secret_of_ones_own_is_read_and_never_made(tmp_path: Path) -> None:
    file = tmp_path / "mounted"
    with pytest.raises(NoSecret, match=r"mounted cannot be used: No such file"):
        load_secret(tmp_path, file)
    file.write_bytes(b" s3cret\n")
    assert load_secret(tmp_path, file) == (b"s3cret",)
    file.write_bytes(b"new\n\n  old\r\n")
    assert load_secret(tmp_path, file) == (b"new", b"old")
    file.write_bytes(b"\n")
    with pytest.raises(NoSecret, match="mounted is empty"):
        load_secret(tmp_path, file)


def test_the_receiver_in_the_documentation_verifies_it() -> None:
    page = (Path(__file__).parents[3] / "docs/callbacks.md").read_text()
    place: dict[str, Any] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], place)
    now = int(time.time())
    headers = {"X-Call-Id": "id-1", "X-Function-Status": "200", "X-Pinnace-Timestamp": str(now)}
    headers["X-Pinnace-Signature"] = sign([b"key"], "id-1", "200", now, [b"the body"])
    verify = place["is_from_the_platform"]
    assert verify(headers, b"the body", b"key")
    assert not verify(headers, b"another body", b"key")
    assert not verify(headers | {"X-Function-Status": "500"}, b"the body", b"key")
    old = headers | {"X-Pinnace-Timestamp": str(now - 301)}
    old["X-Pinnace-Signature"] = sign([b"key"], "id-1", "200", now - 301, [b"the body"])
    assert not verify(old, b"the body", b"key")


def test_while_keys_are_changed_who_knows_one_of_them_is_content() -> None:
    page = (Path(__file__).parents[3] / "docs/callbacks.md").read_text()
    place: dict[str, Any] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], place)
    verify = place["is_from_the_platform"]
    now = int(time.time())
    headers = {"X-Call-Id": "id-1", "X-Function-Status": "200", "X-Pinnace-Timestamp": str(now)}
    headers["X-Pinnace-Signature"] = sign([b"new", b"old"], "id-1", "200", now, [b"x"])
    assert verify(headers, b"x", b"old") and verify(headers, b"x", b"new") and verify(headers, b"x", b"newest", b"old")
    assert not verify(headers, b"x", b"newest")
    assert not verify(headers, b"y", b"old")
