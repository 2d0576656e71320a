"""The namespaces of this machine and the secrets in them: who holds what, and what may be taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager

from orchestration.function import Function
from orchestration.local.failures import Conflict
from orchestration.local.secret_store import SecretStore
from orchestration.local.store import Store
from orchestration.names import DEFAULT_NAMESPACE, FunctionId, check_namespace
from orchestration.orchestrator import AlreadyExists, Namespace, NotFound, Refused, secrets_missing
from orchestration.queueing import secrets_named
from orchestration.revision import Revision


class Namespaces:
    """`held` are those that exist, by name; `functions` gives all that are deployed, `changes` the lock under which a
    namespace is changed (`locks`). At most `most` namespaces fit."""

    def __init__(
        self,
        held: dict[str, Namespace],
        store: Store,
        secrets: SecretStore,
        functions: Callable[[], Mapping[FunctionId, Function]],
        changes: Callable[[str], AbstractAsyncContextManager[None]],
        most: int,
    ) -> None:
        self._held = held
        self._store = store
        self._secrets = secrets
        self._functions = functions
        self._changes = changes
        self._most = most

    def all(self) -> list[Namespace]:
        """Return all, by name."""
        return sorted(self._held.values(), key=lambda namespace: namespace.name)

    def check(self, name: str) -> None:
        """Raises NotFound."""
        if name not in self._held:
            raise NotFound(f"there is no namespace {name!r}")

    async def create(self, namespace: Namespace) -> None:
        """Raises AlreadyExists, Refused when no more fit, names.InvalidName."""
        check_namespace(namespace.name)
        async with self._changes(namespace.name):
            if namespace.name in self._held:
                raise AlreadyExists(f"namespace {namespace.name!r} exists")
            await self._secrets.delete_namespace(namespace.name)  # a removal that was cut short leaves them
            await self._store.put_namespace(namespace, self._most)
            self._held[namespace.name] = namespace

    async def update(self, namespace: Namespace) -> None:
        """Replace labels and annotations. Raises NotFound."""
        async with self._changes(namespace.name):
            self.check(namespace.name)
            await self._store.put_namespace(namespace)
            self._held[namespace.name] = namespace

    async def delete(self, name: str) -> None:
        """Remove it with its secrets. Raises NotFound, Refused for the default one or while it holds functions."""
        async with self._changes(name):
            self.check(name)
            if name == DEFAULT_NAMESPACE:
                raise Refused(f"namespace {name!r} is the default one and stays")
            if held := sorted(f.name for f in self._functions() if f.namespace == name):
                raise Refused(f"namespace {name!r} holds functions: {', '.join(held[:10])}; remove them first")
            try:
                await self._store.remove_namespace(name)
            except Conflict:  # a function was deployed at the same time
                raise Refused(f"namespace {name!r} holds functions; remove them first") from None
            await self._secrets.delete_namespace(name)
            del self._held[name]

    # secrets

    def secrets(self, namespace: str) -> list[str]:
        """Return the names. Raises NotFound for an unknown namespace."""
        self.check(namespace)
        return self._secrets.names(namespace)

    async def secret_value(self, namespace: str, name: str) -> bytes:
        """Raises NotFound."""
        found = await self._secrets.values(namespace, (name,))
        if name not in found:
            raise NotFound(f"there is no secret {name!r} in namespace {namespace!r}")
        return found[name]

    async def create_secret(self, namespace: str, name: str, value: bytes) -> None:
        """Raises AlreadyExists, NotFound (namespace), Refused, names.InvalidName."""
        async with self._changes(namespace):
            self.check(namespace)
            await self._secrets.create(namespace, name, value)

    async def update_secret(self, namespace: str, name: str, value: bytes, outdated: Callable[[Revision], None]) -> None:
        """Replace the value; `outdated` is told of the revisions that have the old one. Raises NotFound, Refused."""
        async with self._changes(namespace):
            self.check(namespace)
            await self._secrets.update(namespace, name, value)
            for function in self._users(namespace, name):
                for revision in function.revisions:
                    if name in revision.secrets:
                        outdated(revision)

    async def delete_secret(self, namespace: str, name: str) -> None:
        """Raises NotFound, Refused while a function uses it."""
        async with self._changes(namespace):
            self.check(namespace)
            if users := sorted(function.id.name for function in self._users(namespace, name)):
                raise Refused(f"secret {name!r} is used by {', '.join(users)}")
            await self._secrets.delete(namespace, name)

    def check_secrets(self, namespace: str, names: Iterable[str], user: str = "") -> None:
        """See that secrets are there; `user` is what uses them, in words. Raises Refused."""
        if missing := self._secrets.missing(namespace, tuple(names)):
            raise secrets_missing(namespace, missing, user)

    def _users(self, namespace: str, name: str) -> list[Function]:
        """Return the functions with a revision that uses the secret and may still run, or whose callbacks it signs."""
        return [
            function
            for identity, function in self._functions().items()
            if identity.namespace == namespace
            and (
                name in secrets_named(function.spec)
                or any(name in r.secrets for r in function.revisions if r is function.newest or function.routes_to(r.name))
            )
        ]
