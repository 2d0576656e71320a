from __future__ import annotations

import base64
from pathlib import Path

import pytest
import yaml

from builder.context import InvalidContext
from builder.keys import BuilderKey, PublicKey
from builder.sealing import seal, unseal

SECRETS = {"pip.conf": b"[global]\nindex-url = https://user:word@example.com\n", "empty": b"", "binary": bytes(range(256))}


@pytest.fixture
def key(tmp_path: Path) -> BuilderKey:
    return BuilderKey(tmp_path)


def changed(content: bytes, **fields: object) -> bytes:
    return yaml.safe_dump({**yaml.safe_load(content), **fields}).encode()


def test_only_the_builder_reads_what_was_sealed_for_it(key: BuilderKey, tmp_path: Path) -> None:
    content = seal(SECRETS, key.public())
    assert b"word" not in content
    assert unseal(content, key) == SECRETS
    (tmp_path / "other").mkdir()
    with pytest.raises(
        InvalidContext, match=r"are sealed for the key '.{8}', and this builder's is '.{8}': fetch GET /publickey"
    ):
        unseal(content, BuilderKey(tmp_path / "other"))


def test_the_format_is_openfaas_own(key: BuilderKey) -> None:
    said = yaml.safe_load(seal({"a": b"b"}, key.public()))
    assert (said["version"], said["algorithm"], said["key_id"]) == ("v1", "nacl/box", key.public().public_key[:8])
    assert len(base64.b64decode(said["public_key"])) == 32
    assert len(base64.b64decode(said["secrets"]["a"])) == 24 + 16 + 1  # nonce, authenticator, content


def test_a_changed_secret_is_refused(key: BuilderKey) -> None:
    content = seal({"a": b"b"}, key.public())
    box = bytearray(base64.b64decode(yaml.safe_load(content)["secrets"]["a"]))
    box[-1] ^= 1
    with pytest.raises(InvalidContext, match="the build secret 'a' cannot be opened"):
        unseal(changed(content, secrets={"a": base64.b64encode(box).decode()}), key)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"version": "v2"}, "is 'v2' with 'nacl/box'; this builder reads v1"),
        ({"algorithm": "age"}, "is 'v1' with 'age'"),
        ({"public_key": "AAAA"}, "public_key is not 32 bytes in base64"),
        ({"public_key": 5}, "is not what it should be"),
        ({"secrets": {"a": "%%%"}}, "the build secret 'a' cannot be opened"),
        ({"secrets": {"a": 5}}, "the build secret 'a' cannot be opened"),
        ({"secrets": {"../a": ""}}, "named with letters, digits"),
        ({"secrets": {f"s{n}": "" for n in range(65)}}, "at most 64 build secrets"),
    ],
)
def test_what_is_not_the_format_is_refused(key: BuilderKey, fields: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidContext, match=reason):
        unseal(changed(seal({"a": b"b"}, key.public()), **fields), key)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"!!python/object/apply:os.system ['x']"])
def test_what_is_no_mapping_is_refused(key: BuilderKey, content: bytes) -> None:
    with pytest.raises(InvalidContext):
        unseal(content, key)


def test_a_key_that_is_none_is_told() -> None:
    with pytest.raises(InvalidContext, match="the builder's public key is not 32 bytes"):
        seal({}, PublicKey("x", "nacl/box", "AAAA"))
