"""Which gateway a command talks to.

`--gateway`, else the stack file's `provider.gateway`, else `OPENFAAS_URL`, else the default. A stack file that says the
default counts as silent, as in faas-cli, so that a checked-in stack.yaml can be sent elsewhere by the environment; a flag
is always what was meant.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from cli.errors import Misuse

DEFAULT_GATEWAY = "http://127.0.0.1:8080"
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def choose_gateway(flag: str | None = None, stack: str | None = None, environment: Mapping[str, str] = os.environ) -> str:
    """Return the gateway's normalised URL. Raises Misuse for one that cannot be."""
    if flag and flag.strip():
        return normalise(flag)
    if stack and stack.strip() and normalise(stack) != DEFAULT_GATEWAY:
        return normalise(stack)
    return normalise(environment.get("OPENFAAS_URL") or DEFAULT_GATEWAY)


def normalise(url: str) -> str:
    """Return `url` in lower case, with a scheme and without a trailing slash: the key of logins. Raises Misuse."""
    url = url.strip().lower()
    if "://" not in url:
        url = f"http://{url}"
    url = url if url.endswith("://") else url.rstrip("/")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Misuse(f"gateway {url!r}: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise Misuse(f"gateway {url!r} is not a URL such as http://127.0.0.1:8080")
    if parts.username is not None:
        raise Misuse("a gateway's URL holds no login: faas login -u NAME --password-stdin")
    return url


def same_gateways(url: str) -> tuple[str, ...]:
    """Return the normalised `url` and the other spellings under which a login for it may be kept (loopback names)."""
    url = normalise(url)
    parts = urlsplit(url)
    host, port = parts.netloc.rpartition("@")[2], ""
    if parts.port is not None:
        host, _, port = host.rpartition(":")
    if host not in _LOOPBACK:
        return (url,)
    rest = (f":{port}" if port else "") + parts.path
    return (url, *(f"{parts.scheme}://{name}{rest}" for name in _LOOPBACK if name != host))
