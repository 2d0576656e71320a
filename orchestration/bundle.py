"""A bundle: what a replica runs, made of content-addressed layers.

As folders the layers run on this machine; packed they are the layers of an OCI image. The platform finds bundles by
the image name that a build gave them.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Protocol

import msgspec


class LayerKind(enum.StrEnum):
    RUNTIME = "runtime"
    DEPENDENCIES = "dependencies"
    CODE = "code"


class Listens(enum.StrEnum):
    """How a replica is reached: on the Unix socket that it inherits, or on the TCP port that `PORT` names."""

    SOCKET = "socket"
    PORT = "port"


class Layer(msgspec.Struct, frozen=True, rename="camel"):
    """`digest` is `sha256:HEX` over the folder's content; `size_bytes` what its files take."""

    kind: LayerKind
    digest: str
    size_bytes: int


class Bundle(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`digest` is `sha256:HEX` over everything but itself. `template` is the language name, such as `python3-http`.

    `command` is the argument list that serves the function. In it `{python}` stands for the interpreter of the
    dependency layer, `{node}` for Node.js, `{runtime}`, `{dependencies}` and `{code}` for the folders of the layers.
    `env` are defaults that a function's own variables override. `python` is `X.Y`, or None where no Python is involved.
    `created_at` is Unix seconds and not part of the digest.
    """

    digest: str
    template: str
    command: tuple[str, ...]
    env: dict[str, str]
    python: str | None
    layers: tuple[Layer, ...]
    created_at: float = 0.0
    listens: Listens = Listens.SOCKET

    @property
    def runs_command(self) -> bool:
        """Whether its template runs the command that a deploy may name (`fprocess`), for each call or once."""
        return "fprocess" in self.env

    def layer(self, kind: LayerKind) -> Layer | None:
        return next((layer for layer in self.layers if layer.kind is kind), None)


class UnknownBundle(LookupError):
    """No bundle has that digest or image name here; the message says how to make one."""


class BundleSource(Protocol):
    """Where an orchestrator finds bundles. Both calls read the disk: run them in a thread."""

    def resolve(self, image: str) -> Bundle:
        """Return the bundle that the image name (or a digest) stands for now. Raises UnknownBundle."""

    def folder(self, layer: Layer) -> Path:
        """Return the folder that holds the layer's files. It stays while a revision uses its bundle."""
