"""How a registry lets us in: its challenge, a token from where the challenge points, or user and password.

A registry answers 401 with `WWW-Authenticate`. `Basic` wants the login itself. `Bearer` (distribution's token
specification) names a realm that gives a token for a service and a scope: by GET with the login, or by POST with an
identity token. Tokens are kept for as long as they last, so that a push asks once and not for each of its requests.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from builder.registry.credentials import Credentials
from builder.registry.errors import NotAuthorized, RegistryError
from builder.registry.transport import Transport, host_of

TOKEN_LASTS_S = 60.0
"""The specification's value where a token server does not say."""

_EARLY_S = 5.0
_CHALLENGE = re.compile(r'(Bearer|Basic)\s*((?:[a-z_]+="[^"]*"(?:\s*,\s*)?|[a-z_]+=[^\s",]+(?:\s*,\s*)?)*)', re.IGNORECASE)
_PARAMETER = re.compile(r'([a-z_]+)=(?:"([^"]*)"|([^\s",]+))', re.IGNORECASE)


@dataclass(frozen=True)
class _Challenge:
    kind: str
    realm: str = ""
    service: str = ""
    scope: str = ""


class Authorization:
    """Gives the `Authorization` header for one registry. `find` is asked for the login once, when one is needed.

    A `plain` registry is one without TLS: only such a one may name a token server without TLS.
    """

    def __init__(
        self,
        registry: str,
        transport: Transport,
        find: Callable[[], Credentials | None],
        clock: Callable[[], float] = time.monotonic,
        *,
        plain: bool = False,
    ) -> None:
        self._registry = registry
        self._plain = plain
        self._transport = transport
        self._find = find
        self._clock = clock
        self._lock = threading.RLock()
        self._asked = False
        self._login: Credentials | None = None
        self._challenge: _Challenge | None = None
        self._tokens: dict[str, tuple[str, float]] = {}

    def header(self, scope: str) -> str | None:
        """Return the header for requests of that scope, or None when the registry has not asked for one yet."""
        with self._lock:
            if self._challenge is None:
                return None
            if self._challenge.kind == "basic":
                login = self._credentials()
                return login.basic if login is not None and login.user else None
            return f"Bearer {self._token(scope)}"

    def challenged(self, header: str, scope: str, refused: str | None) -> bool:
        """Take in the challenge of a 401 to a request that had the header `refused`; return whether trying again may help.

        Raises NotAuthorized when the token server does not accept the login.
        """
        with self._lock:
            challenge = _read_challenge(header)
            if challenge is None:
                return False
            if challenge.kind == "basic":
                self._challenge = challenge
                return refused is None and self.header(scope) is not None
            known = self._tokens.get(scope)
            if refused is not None and known is not None and refused == f"Bearer {known[0]}":
                del self._tokens[scope]
                if self._challenge == challenge:
                    return False  # a new token would be the same answer to the same question
            self._challenge = challenge
            return True

    @property
    def has_login(self) -> bool:
        """Whether a login for this registry is kept on this machine."""
        return self._credentials() is not None

    def _credentials(self) -> Credentials | None:
        with self._lock:
            if not self._asked:
                self._login, self._asked = self._find(), True
            return self._login

    def _token(self, scope: str) -> str:
        found = self._tokens.get(scope)
        if found is None or found[1] <= self._clock():
            found = self._tokens[scope] = self._new_token(scope)
        return found[0]

    def _new_token(self, scope: str) -> tuple[str, float]:
        challenge, login = self._challenge, self._credentials()
        assert challenge is not None
        scheme = urlsplit(challenge.realm).scheme
        if scheme not in ("http", "https"):
            raise RegistryError(f"the registry {self._registry} names no token server that could be asked")
        if scheme == "http" and not self._plain:
            raise RegistryError(
                f"the registry {self._registry} names the token server {host_of(challenge.realm)}, "
                "which has no TLS and is not asked"
            )
        query = {"service": challenge.service, "scope": scope or challenge.scope}
        query = {name: value for name, value in query.items() if value}
        if login is not None and login.identity_token:
            form = {"grant_type": "refresh_token", "client_id": "pinnace", "refresh_token": login.identity_token, **query}
            method, url, body = "POST", challenge.realm, urlencode(form).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
        else:
            separator = "&" if "?" in challenge.realm else "?"
            method, url, body = "GET", f"{challenge.realm}{separator}{urlencode(query)}", None
            headers = {"Authorization": login.basic} if login is not None else {}
        with self._transport.exchange(method, url, headers, body) as answer:
            content = answer.read()
        if answer.status in (400, 401, 403):
            raise NotAuthorized(_refusal(self._registry, host_of(challenge.realm), login), answer.status)
        try:
            said = json.loads(content) if answer.status == 200 else {}
            token = str(said.get("token") or said.get("access_token") or "")
            lasts_s = float(said.get("expires_in") or TOKEN_LASTS_S)
        except (ValueError, TypeError, AttributeError, RecursionError):
            token, lasts_s = "", 0.0
        if not token or re.search(r"[^\x21-\x7e]", token):
            raise RegistryError(
                f"the token server {host_of(challenge.realm)} gives no token (HTTP {answer.status})", answer.status
            )
        return token, self._clock() + max(0.0, lasts_s - _EARLY_S)


def _read_challenge(header: str) -> _Challenge | None:
    found = {match[1].lower(): match[2] for match in _CHALLENGE.finditer(header)}
    if "bearer" in found:
        parameters = {match[1].lower(): match[2] or match[3] or "" for match in _PARAMETER.finditer(found["bearer"])}
        return _Challenge("bearer", *(parameters.get(name, "") for name in ("realm", "service", "scope")))
    return _Challenge("basic") if "basic" in found else None


def _refusal(registry: str, where: str, login: Credentials | None) -> str:
    if login is None:
        return f"the registry {registry} wants a login and none is kept here: docker login {registry}"
    return f"the login for the registry {registry} is not accepted by {where}: docker login {registry}"
