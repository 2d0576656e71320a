"""Where an image is: registry, repository, and a tag or a digest, from the name as people write it.

As with Docker, the first part of a name is a registry when it has a dot or a colon or is `localhost`; other names are on
Docker Hub, in `library/` when they have one part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from builder.images import InvalidImageName, split_name

HUB = "docker.io"
HUB_API = "registry-1.docker.io"
ANY = "*"


@dataclass(frozen=True)
class Reference:
    """`registry` is a host with an optional port. `reference` is the digest where there is one, else the tag."""

    registry: str
    repository: str
    tag: str
    digest: str | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.registry}/{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def reference(self) -> str:
        return self.digest or self.tag

    @property
    def api_host(self) -> str:
        """The host that serves the API."""
        return HUB_API if self.registry == HUB else self.registry

    def at(self, digest: str) -> Reference:
        """Return the same repository at a digest."""
        return replace(self, digest=digest)


def parse_reference(text: str) -> Reference:
    """Return where the image of that name is. Raises InvalidImageName."""
    name, tag, digest = split_name(text)
    first, slash, rest = name.partition("/")
    if slash and names_a_registry(first):
        registry, repository = first, rest
    else:
        registry, repository = HUB, name
    if registry in ("index.docker.io", HUB_API):
        registry = HUB
    if registry == HUB and "/" not in repository:
        repository = f"library/{repository}"
    if not repository or repository != repository.lower():
        raise InvalidImageName(f"{text!r} names no repository in the registry {registry}")
    return Reference(registry, repository, tag or ("" if digest else "latest"), digest)


def names_a_registry(first: str) -> bool:
    """Whether the first part of an image's name is a registry's."""
    return "." in first or ":" in first or first == "localhost"


def has_registry(image: str) -> bool:
    """Whether an image's name says which registry it belongs to."""
    first, slash, _ = image.partition("/")
    return bool(slash) and names_a_registry(first)


def is_allowed(image: str, registries: Sequence[str]) -> bool:
    """Whether an image's name says a registry and that is among `registries`: hosts, with or without a path, or `*`.

    `registry.example.com/team` allows `registry.example.com/team/app`, and not `registry.example.com/teams/app`.
    """
    if not has_registry(image):
        return False
    name = parse_reference(image)
    place = f"{name.registry}/{name.repository}/"
    return any(entry == ANY or place.startswith(entry.rstrip("/") + "/") for entry in registries)


def is_local(host: str) -> bool:
    """Whether `host` (with or without a port) is this machine, where registries speak plain HTTP."""
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    if name == "localhost":
        return True
    import ipaddress  # 5 ms, which a build for this machine need not pay

    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
