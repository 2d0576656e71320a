"""Build secrets on their way: encrypted by the client to the builder's public key, in OpenFaaS's format.

A YAML file in the build context has `version`, `algorithm` (`nacl/box`: Curve25519, XSalsa20, Poly1305), `key_id` (the
beginning of the builder's public key), `public_key` (the sender's, made for this one time) and `secrets`: names to base64
of nonce and box.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from builder.context import SECRETS_NAME, InvalidContext
from builder.keys import ALGORITHM, KEY_ID_CHARACTERS, BuilderKey, PublicKey

VERSION = "v1"
MOST_SECRETS = 64
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")


def seal(secrets: Mapping[str, bytes], key: PublicKey) -> bytes:
    """Return the sealed secrets for the builder with that key. Raises InvalidContext for a key that is none."""
    import yaml
    from nacl.public import Box, PrivateKey
    from nacl.public import PublicKey as BoxKey

    try:
        receiver = BoxKey(base64.b64decode(key.public_key, validate=True))
    except (ValueError, TypeError):
        raise InvalidContext("the builder's public key is not 32 bytes in base64") from None
    if key.algorithm != ALGORITHM:
        raise InvalidContext(f"the builder wants secrets sealed with {key.algorithm!r}; this client knows {ALGORITHM}")
    sender = PrivateKey.generate()
    box = Box(sender, receiver)
    content = {
        "version": VERSION,
        "algorithm": ALGORITHM,
        "key_id": key.key_id,
        "public_key": base64.b64encode(bytes(sender.public_key)).decode(),
        "secrets": {name: base64.b64encode(bytes(box.encrypt(value))).decode() for name, value in sorted(secrets.items())},
    }
    return yaml.safe_dump(content).encode()


def unseal(content: bytes, key: BuilderKey) -> dict[str, bytes]:
    """Return the secrets in `content`. Raises InvalidContext; no message tells anything of a secret."""
    import yaml
    from nacl.exceptions import CryptoError
    from nacl.public import Box
    from nacl.public import PublicKey as BoxKey

    try:
        said = msgspec.convert(yaml.safe_load(content), type=_Sealed)
        sender = BoxKey(base64.b64decode(said.public_key, validate=True))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise InvalidContext(f"{SECRETS_NAME} is not YAML") from None
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        reason = str(error) if isinstance(error, msgspec.ValidationError) else "public_key is not 32 bytes in base64"
        raise InvalidContext(f"{SECRETS_NAME} is not what it should be: {reason}") from None
    if said.version != VERSION or said.algorithm != ALGORITHM:
        raise InvalidContext(
            f"{SECRETS_NAME} is {said.version!r} with {said.algorithm!r}; this builder reads {VERSION} with {ALGORITHM}"
        )
    if said.key_id != key.public().key_id:
        raise InvalidContext(
            f"the build secrets are sealed for the key {said.key_id[:KEY_ID_CHARACTERS]!r}, and this builder's is "
            f"{key.public().key_id!r}: fetch GET /publickey again"
        )
    if len(said.secrets) > MOST_SECRETS or not all(_NAME.fullmatch(name) for name in said.secrets):
        raise InvalidContext(f"at most {MOST_SECRETS} build secrets, named with letters, digits, '_', '.' and '-'")
    box = Box(key.private(), sender)
    opened = {}
    for name, value in said.secrets.items():
        try:
            opened[name] = bytes(box.decrypt(base64.b64decode(value, validate=True)))
        except (CryptoError, binascii.Error, ValueError, TypeError):
            raise InvalidContext(
                f"the build secret {name!r} cannot be opened: it was sealed for another key, or changed"
            ) from None
    return opened


class _Sealed(msgspec.Struct):
    version: str
    algorithm: str
    key_id: str
    public_key: str
    secrets: dict[str, Any] = {}
