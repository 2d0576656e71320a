"""Fresh randomness for a fork: two replicas of one zygote may not draw the same numbers, ids or keys.

`find` looks once, before the fork, for every generator that the imports made; `renew` gives each a seed of its own
afterwards. What the operating system draws (`os.urandom`, `secrets`, `uuid4`) is fresh anyway.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # importing typing takes 5 ms; type checkers know the name
if TYPE_CHECKING:
    from typing import Any

_MULTICAST = 1 << 40  # of a node id that is random instead of a network card's (RFC 9562, section 6.10)
_ENTROPY_BYTES = 32


def find() -> list[Any]:
    """Return the generators of `random` and of numpy that exist. Call it before `gc.freeze`, which hides them."""
    import gc

    kinds = tuple(_kinds())
    if not kinds:
        return []
    system = getattr(sys.modules.get("random"), "SystemRandom", ())
    return [found for found in gc.get_objects() if isinstance(found, kinds) and not isinstance(found, system)]


def renew(generators: list[Any]) -> None:
    """Give each of `generators`, uuid's clock and OpenSSL's pool randomness that no other process has."""
    for generator in generators:
        _reseed(generator)
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed()
    if uuid := sys.modules.get("uuid"):
        _renew_uuid(uuid)
    if ssl := sys.modules.get("_ssl"):
        ssl.RAND_add(os.urandom(_ENTROPY_BYTES), float(_ENTROPY_BYTES))


def _kinds() -> list[type]:
    kinds = []
    if random := sys.modules.get("random"):
        kinds.append(random.Random)
    if numpy_random := sys.modules.get("numpy.random"):
        kinds += [numpy_random.Generator, numpy_random.RandomState]
    return kinds


def _reseed(generator: Any) -> None:
    bits = getattr(generator, "bit_generator", None) or getattr(generator, "_bit_generator", None)  # numpy's
    if bits is not None:
        bits.state = type(bits)().state
    else:
        # Not `generator.seed()`: a subclass may have made something else of it.
        sys.modules["random"].Random.seed(generator)


def _renew_uuid(uuid: Any) -> None:
    """`uuid1` counts on from the last id, in Python and in libuuid: from now on Python makes it, with a clock of its own."""
    uuid._last_timestamp = None
    uuid._generate_time_safe = None
    node = getattr(uuid, "_node", None)
    if node is not None and node & _MULTICAST:
        uuid._node = int.from_bytes(os.urandom(6), "big") | _MULTICAST
