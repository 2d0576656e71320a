"""Who asks, and whether they may: basic authentication with the one login of the platform.

The login and the secret that signs builds are files: in the data folder, made at the first start, or in the folder
that `secret_mount_path` names, where an operator put them (as OpenFaaS's gateway reads them).

Who has the login can get a token that stands for it for some time (`session`): a kind, an end and an HMAC over both. It is kept
nowhere; its key is made of the login and the payload secret, so another password ends all of them.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from builder.disk import write_durably
from gateway.control import errors

USER_FILE = "basic-auth-user"
PASSWORD_FILE = "basic-auth-password"  # noqa: S105 - a file's name
PAYLOAD_SECRET_FILE = "payload-secret"  # noqa: S105 - a file's name
DEFAULT_USER = "admin"

_USER = "pinnace.user"

SESSION_S = 12 * 3600.0
LINK_S = 60.0

Action = Literal["read", "write", "build"]


class TokenKind(enum.StrEnum):
    """What a token is good for: everything, or only to get one that is."""

    SESSION = "s"
    LINK = "l"


class NoLogin(Exception):
    """A login file is missing, empty or unreadable; the message names it."""


@dataclass(frozen=True)
class Login:
    user: str
    password: str = field(repr=False)


class Auth:
    """The platform's login and payload secret. `login=None` lets everybody in."""

    def __init__(self, login: Login | None, payload_secret: bytes) -> None:
        self.login = login
        self.payload_secret = payload_secret
        self._expected = _digest(login.user, login.password) if login is not None else b""
        self._used: dict[str, int] = {}  # links that were used, until when they would have been good
        self._token_key = hmac.digest(payload_secret or secrets.token_bytes(32), b"session " + self._expected, "sha256")

    @classmethod
    def open(cls, folder: Path, *, enabled: bool = True, secret_mount_path: Path | None = None) -> Self:
        """Read the login and the payload secret from `secret_mount_path`, or else from `folder`, made where missing.

        `enabled=False` asks nobody for a login; signed builds work all the same. Reads and writes files: call it before
        the loop runs or in a thread. Raises NoLogin, OSError.
        """
        payload_secret = _kept(folder / PAYLOAD_SECRET_FILE, secrets.token_hex(32))
        if not enabled:
            return cls(None, payload_secret.encode())
        if secret_mount_path is not None:
            user, password = (_text(secret_mount_path / name) for name in (USER_FILE, PASSWORD_FILE))
        else:
            user = _kept(folder / USER_FILE, DEFAULT_USER)
            password = _kept(folder / PASSWORD_FILE, secrets.token_urlsafe(24))
        if ":" in user:
            raise NoLogin(f"the user name {user!r} may not hold ':', which ends it in basic authentication")
        return cls(Login(user, password), payload_secret.encode())

    def user(self, headers: Headers) -> str | None:
        """Return who sent these headers, None when they hold no valid login; as slowly for a near miss as for a far one."""
        if self.login is None:
            return DEFAULT_USER
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.login.user if self._holds(TokenKind.SESSION, token.strip(), time.time()) else None
        if scheme.lower() != "basic":
            return None
        return self.login.user if self._is_login(token) else None

    def token(self, kind: TokenKind, expires_at: int) -> str:
        """Return a token that is good until `expires_at` (Unix seconds); empty where nobody is asked for a login."""
        if self.login is None:
            return ""
        said = f"{kind}.{expires_at}.{secrets.token_hex(8)}"
        return f"{said}.{self._seal(said)}"

    def may_begin_session(self, headers: Headers, now: float) -> bool:
        """Whether these headers hold the login, or a link's token, which is used up by this.

        A session's own token is not enough: nobody may make it longer.
        """
        if self.login is None:
            return True
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._redeem(token.strip(), now)
        return scheme.lower() == "basic" and self._is_login(token)

    def _redeem(self, link: str, now: float) -> bool:
        """Whether `link` is good; it is so once, because others on the machine may see the address that a browser is given."""
        if link in self._used or not self._holds(TokenKind.LINK, link, now):
            return False
        self._used = {used: end for used, end in self._used.items() if end > now} | {link: int(now + LINK_S)}
        return True

    def _seal(self, said: str) -> str:
        return hmac.new(self._token_key, said.encode(), hashlib.sha256).hexdigest()

    def _holds(self, kind: TokenKind, token: str, now: float) -> bool:
        """Whether `token` was made here, is of this kind and not over."""
        said, _, seal = token.rpartition(".")
        if not token.isascii() or not hmac.compare_digest(seal, self._seal(said)):
            return False
        given, end, _ = said.split(".")
        return given == kind and now < int(end)

    def _is_login(self, token: str) -> bool:
        try:
            user, colon, password = base64.b64decode(token.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return False
        return bool(colon) and hmac.compare_digest(_digest(user, password), self._expected)

    def authorize(self, request: Request, action: Action, namespace: str) -> None:
        """Let `action` in `namespace` pass, or raise HTTPException 401.

        Every endpoint that needs a login asks here, so that roles and namespaces of one's own have one place to come to;
        today whoever has the login may do everything.
        """
        if request.scope.get(_USER) is None:
            raise HTTPException(401)


class Authentication:
    """ASGI middleware: closed but for `open_paths`; on `deferred_paths` the endpoint itself refuses who is not known."""

    def __init__(self, app: ASGIApp, auth: Auth, open_paths: Collection[str], deferred_paths: Collection[str]) -> None:
        self._app = app
        self._auth = auth
        self._passing = tuple(compile_path(path)[0] for path in (*open_paths, *deferred_paths))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            scope[_USER] = self._auth.user(headers)
            if scope[_USER] is None and not any(path.match(scope["path"]) for path in self._passing):
                await errors.unknown(headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _digest(user: str, password: str) -> bytes:
    return hashlib.sha256(user.encode("utf-8", "surrogatepass") + b"\0" + password.encode("utf-8", "surrogatepass")).digest()


def _text(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NoLogin(f"cannot read {file}: {error}") from None
    if not text:
        raise NoLogin(f"{file} is empty: write into it what it is to hold, or remove it to have it made anew")
    return text


def _kept(file: Path, fresh: str) -> str:
    """Return what `file` holds; made with `fresh`, for its owner only and whole or not at all, when it is not there."""
    if file.exists():
        return _text(file)
    write_durably(file, fresh.encode(), 0o600)
    return fresh
