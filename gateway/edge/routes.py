"""From a function's name to the dispatcher of one of its revisions. Fed by what an orchestrator's `watch` yields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from gateway.edge.call import Call
from gateway.edge.dispatcher import Dispatcher
from gateway.edge.refusal import Refusal, not_found
from gateway.edge.tally import Tally
from orchestration.events import Event, FunctionChanged, FunctionRemoved, ReplicaChanged
from orchestration.function import Function
from orchestration.names import DEFAULT_NAMESPACE, FunctionId, parse_function_id
from orchestration.settings import ReplicaSettings

RevisionKey = tuple[str, str]
"""(namespace, revision name)"""

MakeDispatcher = Callable[[str, str, str, float, int], Dispatcher]
"""(namespace, function, revision, timeout_s, concurrency) → dispatcher"""

PREFIX: Final = b"/function/"
ASYNC_PREFIX: Final = b"/async-function/"


def name_in(target: bytes, prefix: bytes) -> bytes:
    """Return what stands for a function in a target that begins with `prefix`."""
    return target[len(prefix) :].partition(b"?")[0].partition(b"/")[0]


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Split `/function/NAME[/rest][?query]` into the name and what the function sees: the rest, byte for byte."""
    start = len(PREFIX)
    query = target.find(b"?", start)
    stop = query if query >= 0 else len(target)
    slash = target.find(b"/", start, stop)
    if slash >= 0:
        return target[start:slash], target[slash:]
    return target[start:stop], b"/" + target[stop:]


class Route:
    """Where calls of one function go: `pick` deals them out by percent, evenly spread (90/10 → each tenth one).

    `tags` are the routes of its tags. A tag's own route has none: it goes to one revision, whatever else is said.
    """

    __slots__ = ("_cards", "_next", "_only", "function", "tags", "tally")

    def __init__(
        self,
        function: FunctionId,
        tally: Tally,
        shares: list[tuple[Dispatcher, int]],
        tags: Mapping[str, Dispatcher] | None = None,
    ) -> None:
        self.function = function
        self.tally = tally
        self.tags = None if tags is None else {tag: Route(function, tally, [(to, 100)]) for tag, to in tags.items()}
        self._cards = _deal(shares)
        self._only = self._cards[0] if self._cards and len(set(map(id, self._cards))) == 1 else None
        self._next = 0

    def tagged(self, tag: str) -> Route | None:
        """Return where calls go that name `tag`; None where nothing has it. Who came by a tag's own path stays there."""
        return self if self.tags is None else self.tags.get(tag)

    def pick(self) -> Dispatcher | None:
        """Return the dispatcher for the next call; None when no revision gets traffic."""
        if self._only is not None or not self._cards:
            return self._only
        self._next = (self._next + 1) % len(self._cards)
        return self._cards[self._next]


def told_apart(function: Function) -> set[RevisionKey]:
    """Return the revisions of which calls are counted: those that calls can come to, where these are several."""
    routed = {(function.id.namespace, target.revision) for target in function.traffic}
    return routed if len(routed) > 1 else set()


def _deal(shares: list[tuple[Dispatcher, int]]) -> list[Dispatcher]:
    """Return one round of calls, each share as evenly spread as whole calls allow (smooth weighted round robin)."""
    shares = [(dispatcher, percent) for dispatcher, percent in shares if percent > 0]
    total = sum(percent for _, percent in shares)
    credit = [0] * len(shares)
    cards = []
    for _ in range(total):
        credit = [c + percent for c, (_, percent) in zip(credit, shares, strict=True)]
        richest = max(range(len(credit)), key=credit.__getitem__)
        credit[richest] -= total
        cards.append(shares[richest][0])
    return cards


class Routes:
    """All functions, by the bytes that stand for them in a path: `NAME.NAMESPACE`, and `NAME` in the default namespace; with
    `--TAG` behind the name the revisions that have one."""

    def __init__(self, make_dispatcher: MakeDispatcher, clock: Callable[[], float]) -> None:
        self.names: dict[bytes, Route] = {}
        self.dispatchers: dict[RevisionKey, Dispatcher] = {}
        self.tallies: dict[FunctionId, Tally] = {}
        self.counted: dict[RevisionKey, Tally] = {}
        self.stirring: set[Dispatcher] = set()
        self._functions: dict[FunctionId, Function] = {}
        self._make = make_dispatcher
        self._clock = clock

    def apply(self, event: Event) -> None:
        """Follow one event."""
        match event:
            case FunctionChanged(function):
                self._function_changed(function)
            case FunctionRemoved(namespace, name):
                self._function_removed(FunctionId(namespace, name))
            case ReplicaChanged(replica):
                key = (replica.namespace, replica.revision)
                self._dispatcher(key, replica.function).replica_changed(replica)
                self._forget_unused(key)

    def missing(self, name: bytes, tag: bytes | None) -> Refusal:
        """Return what is told to a call of what is not there."""
        asked = parse_function_id(name.decode("utf-8", "replace"))
        bare, _, named = asked.name.partition("--")
        function = FunctionId(asked.namespace, bare)
        route = self.names.get(str(function).encode())
        if route is None or route.tags is None or not (named or tag is not None):
            return not_found(str(asked))
        told = named or (tag or b"").decode("latin-1")
        has = f"its tags are {', '.join(sorted(route.tags))}" if route.tags else "it has none"
        return Refusal(404, f"function {function} has no tag {told[:60]!r}: {has}")

    def expect(self, key: RevisionKey) -> Dispatcher:
        """Return the dispatcher of a revision that may not have been heard of yet."""
        return self.dispatchers.get(key) or self._dispatcher(key, key[1].rpartition("-")[0])

    def counts(self) -> Mapping[FunctionId, int]:
        """Return how many calls of each function have ended."""
        return {function: tally.completed for function, tally in self.tallies.items()}

    def sweep(self, now: float) -> None:
        """Give unreachable replicas whose rest is over another chance."""
        for dispatcher in self.stirring:
            dispatcher.sweep(now)

    def tick(self, now: float, unused_since: float) -> None:
        """Each second: tell loads, close connections that were not used since that time."""
        for dispatcher in list(self.stirring):
            dispatcher.tick(now)
            dispatcher.prune(unused_since)
            if dispatcher.quiet:
                self.stirring.discard(dispatcher)
                self._forget_unused((dispatcher.namespace, dispatcher.revision))

    def close(self) -> None:
        """Let go of every replica."""
        for dispatcher in self.dispatchers.values():
            dispatcher.close()

    def _dispatcher(self, key: RevisionKey, function: str, settings: ReplicaSettings | None = None) -> Dispatcher:
        """Return the revision's dispatcher, made when it is new. A replica may be heard of before its function."""
        told = settings or ReplicaSettings()
        dispatcher = self.dispatchers.get(key)
        if dispatcher is None:
            dispatcher = self.dispatchers[key] = self._make(key[0], function, key[1], told.timeout_s, told.concurrency)
        elif settings is not None:
            dispatcher.configure(timeout_s=settings.timeout_s, concurrency=settings.concurrency)
        return dispatcher

    def _function_changed(self, function: Function) -> None:
        before = self._functions.get(function.id)
        self._functions[function.id] = function
        for revision in function.revisions:
            self._dispatcher(revision.key, revision.function, revision.settings)
        tally = self.tallies.setdefault(function.id, Tally())
        shares = [(self.dispatchers[(function.id.namespace, t.revision)], t.percent) for t in function.traffic]
        tags = {t.tag: self.dispatchers[(function.id.namespace, t.revision)] for t in function.traffic if t.tag is not None}
        route = Route(function.id, tally, shares, tags)
        self._unname(function.id)
        self._name(function.id.name, function.id.namespace, route)
        for tag, own in (route.tags or {}).items():
            self._name(f"{function.id.name}--{tag}", function.id.namespace, own)
        routed = {id(dispatcher) for dispatcher, _ in shares}
        self._tell_apart(function)
        kept = {revision.key for revision in function.revisions}
        collected = [revision for revision in before.revisions if revision.key not in kept] if before is not None else []
        for revision in (*function.revisions, *collected):  # calls that wait where none come any more follow the traffic
            dispatcher = self.dispatchers.get(revision.key)
            if dispatcher is not None and dispatcher.waiting and id(dispatcher) not in routed:
                self._reroute(dispatcher, route)
        for revision in collected:
            self.counted.pop(revision.key, None)
            self._forget_unused(revision.key)

    def _reroute(self, dispatcher: Dispatcher, route: Route) -> None:
        now = self._clock()
        for waiter in dispatcher.evict(now):
            assert isinstance(waiter, Call)
            if (target := route.pick()) is None:
                waiter.refuse(not_found(str(route.function)))
            else:
                waiter.dispatcher = target
                waiter.dispatch(now)

    def _tell_apart(self, function: Function) -> None:
        """Count the calls of each revision where they can come to several."""
        several = told_apart(function)
        for revision in function.revisions:
            dispatcher = self.dispatchers[revision.key]
            if revision.key in several:
                dispatcher.counted = self.counted.setdefault(revision.key, Tally())
            elif self.counted.pop(revision.key, None) is not None:
                dispatcher.counted = None

    def _name(self, name: str, namespace: str, route: Route) -> None:
        self.names[f"{name}.{namespace}".encode()] = route
        if namespace == DEFAULT_NAMESPACE:
            self.names[name.encode()] = route

    def _unname(self, function: FunctionId) -> None:
        route = self.names.get(str(function).encode())
        for tag in ("", *(f"--{tag}" for tag in (route.tags or {}))) if route is not None else ():
            self.names.pop(f"{function.name}{tag}.{function.namespace}".encode(), None)
            if function.namespace == DEFAULT_NAMESPACE:
                self.names.pop(f"{function.name}{tag}".encode(), None)

    def _function_removed(self, function: FunctionId) -> None:
        state = self._functions.pop(function, None)
        self.tallies.pop(function, None)
        self._unname(function)
        for revision in state.revisions if state is not None else ():
            dispatcher = self.dispatchers[revision.key]
            for waiter in dispatcher.evict(self._clock()):
                waiter.refuse(not_found(str(function)))
            self.counted.pop(revision.key, None)
            self._forget_unused(revision.key)

    def _forget_unused(self, key: RevisionKey) -> None:
        """Let go of a revision that its function no longer lists, once it has neither replicas nor calls."""
        dispatcher = self.dispatchers.get(key)
        if dispatcher is None or not dispatcher.forgettable:
            return
        function = self._functions.get(FunctionId(dispatcher.namespace, dispatcher.name))
        if function is None or all(revision.key != key for revision in function.revisions):
            self.dispatchers.pop(key).close()
