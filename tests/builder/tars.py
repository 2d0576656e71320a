"""Tars as strangers may send them."""

from __future__ import annotations

import io
import tarfile

import msgspec


def tar_of(*members: tuple[tarfile.TarInfo | str, bytes | str], config: object = None) -> io.BytesIO:
    """Return a tar with these members, files where only a name is given, and a configuration."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for member, content in members:
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            if info.isreg():
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        if config is not False:
            data = msgspec.json.encode({"image": "hello"} if config is None else config)
            info = tarfile.TarInfo("com.openfaas.docker.config")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    out.seek(0)
    return out
