"""A small npm registry for tests: packages made on the spot, served on loopback."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


class Registry:
    """What is in the registry, and `asked`, the paths that were asked for."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self._versions: dict[str, dict[str, dict[str, object]]] = {}
        self._tars: dict[str, bytes] = {}

    def add(self, name: str, code: str = "", version: str = "1.0.0", **manifest: object) -> None:
        """Add a package with an index.js; `manifest` goes into its package.json."""
        package = {"name": name, "version": version, "main": "index.js", **manifest}
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for file, text in (("package.json", json.dumps(package)), ("index.js", code)):
                entry = tarfile.TarInfo(f"package/{file}")
                entry.size, entry.mode = len(text.encode()), 0o644
                tar.addfile(entry, io.BytesIO(text.encode()))
        content = buffer.getvalue()
        path = f"/{name}/-/{name}-{version}.tgz"
        self._tars[path] = content
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
        package["dist"] = {"tarball": self.url + path, "integrity": integrity}
        self._versions.setdefault(name, {})[version] = package

    def answer(self, path: str) -> tuple[int, bytes]:
        self.asked.append(path)
        if path in self._tars:
            return 200, self._tars[path]
        name = unquote(path[1:])
        if name not in self._versions:
            return 404, b'{"error": "not found"}'
        versions = self._versions[name]
        return 200, json.dumps({"name": name, "dist-tags": {"latest": max(versions)}, "versions": versions}).encode()


@contextmanager
def serving() -> Iterator[Registry]:
    registry = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content = registry.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        registry.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()
