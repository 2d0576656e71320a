"""The page at `/ui/`: files of this package, as they are. Everything that it shows, it asks the API for, with a session.

The files stand below a path that holds their digest, so browsers keep them for good and never mix two releases; only the first
one, which names the others, is asked for anew each time. They hold nothing secret: a browser gets them without a login, for
whoever has none is asked for it by the page and not by the browser (see `session`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gateway.control.operation import Access, Content, Operation, Parameter

FOLDER: Final = Path(__file__).parent.parent / "page"
INDEX: Final = "index.html"
MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""No script or style stands in the page itself, and no text can become one: not even the page's own scripts may write HTML."""

FOR_GOOD: Final = "public, max-age=31536000, immutable"
_PLACE: Final = "@FILES@"
_PRELOADS: Final = "@PRELOADS@"
_PRELOAD: Final = '<link rel="modulepreload" href="/ui/@FILES@/{}">'
"""All scripts are asked for at once, not each when the one that imports it is there."""

_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}

VERSION = Parameter("version", "The digest of all files.", {"type": "string"}, where="path", required=True)
FILE = Parameter("file", "A file of the page.", {"type": "string"}, where="path", required=True)


class Page:
    """Reads the files when it is made: some 100 KB."""

    def __init__(self, folder: Path = FOLDER) -> None:
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in MEDIA_TYPES}
        digest = hashlib.sha256()
        for name, content in files.items():
            digest.update(b"%b\0%d\0%b" % (name.encode(), len(content), content))
        self.version = digest.hexdigest()[:16]
        index = files.pop(INDEX).decode()
        preloads = "\n".join(_PRELOAD.format(name) for name in files if name.endswith(".js"))
        self._index = index.replace(_PRELOADS, preloads).replace(_PLACE, self.version).encode()
        self._files = files

    async def root(self, request: Request) -> Response:
        return RedirectResponse("/ui/", 307)

    async def index(self, request: Request) -> Response:
        tag = f'"{self.version}"'
        headers = {**_HEADERS, "ETag": tag, "Cache-Control": "no-cache"}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self._index, headers=headers, media_type=MEDIA_TYPES[".html"])

    async def file(self, request: Request) -> Response:
        name = request.path_params["file"]
        content = self._files.get(name)
        if content is None or request.path_params["version"] != self.version:
            raise HTTPException(404, "the page has changed; load it anew")
        headers = {**_HEADERS, "Cache-Control": FOR_GOOD}
        return Response(content, headers=headers, media_type=MEDIA_TYPES[Path(name).suffix])

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                id="getRoot",
                method="GET",
                path="/",
                endpoint=self.root,
                summary="Send a browser to the page",
                success={307: "To `/ui/`."},
                access=Access.OPEN,
            ),
            Operation(
                id="getPage",
                method="GET",
                path="/ui/",
                endpoint=self.index,
                summary="Show the page",
                success={200: Content("The page.", None, "text/html"), 304: "It is as it was."},
                access=Access.OPEN,
            ),
            Operation(
                id="getPageFile",
                method="GET",
                path="/ui/{version}/{file}",
                endpoint=self.file,
                summary="Give a file of the page",
                parameters=(VERSION, FILE),
                success={200: Content("The file.", None, "text/javascript")},
                refusals=(404,),
                access=Access.OPEN,
            ),
        )
