"""Asynchronous calls at the edge: what comes to `/async-function/…` goes to the acceptor as it came.

The acceptor decides which id a call has: 74 random bits of its own, since whoever knows the id may read the result; the
client's wish; or that of the same call submitted before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.edge.refusal import Refusal
from gateway.edge.routes import ASYNC_PREFIX, name_in

if TYPE_CHECKING:
    from gateway.edge.context import EdgeContext
    from gateway.edge.dispatcher import Dispatcher
    from gateway.edge.request import RequestHead

READS: Final = frozenset((b"GET", b"HEAD", b"DELETE"))
"""What may be done with a call that was accepted: its id stands where otherwise a function's name does."""


def acceptor_of(context: EdgeContext, head: RequestHead) -> tuple[Dispatcher | None, Refusal | None]:
    """Return where a request to `/async-function/…` goes, or why it is refused."""
    if context.acceptor is None:
        return None, Refusal(501, "asynchronous calls are not served here; call /function/NAME instead")
    name = name_in(head.target, ASYNC_PREFIX)
    route = context.routes.names.get(name)
    if route is None and head.method in READS:
        return context.acceptor, None
    if route is not None and head.tag is not None:
        route = route.tagged(head.tag.decode("latin-1"))
    return (context.acceptor, None) if route is not None else (None, context.routes.missing(name, head.tag))


def unnamed(marks: bytes) -> bytes:
    """Return the lines that mark a call for the acceptor where the client wished for no id."""
    return marks[marks.index(b"\n") + 1 :]


def accepted_marks(call_id: bytes, marks: bytes) -> bytes:
    """Return the lines that mark a call for its client, once the acceptor has said which id it has."""
    return b"X-Call-Id: %b\r\n%b" % (call_id, unnamed(marks))
