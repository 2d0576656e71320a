from __future__ import annotations

import threading
import time

import pytest
from pinnace_runtime.deadlines import Deadlines

from tests.runtime_templates.replica import wait_until


class Book(Deadlines):
    """A book that keeps what expired and how often its thread was rung."""

    def __init__(self) -> None:
        self.expired: list[object] = []
        self.rings = 0
        super().__init__(self.expired.append)
        self.start()

    def _ring(self) -> None:
        self.rings += 1
        super()._ring()


@pytest.fixture
def book() -> Book:
    return Book()


def call() -> object:
    return object()


def test_what_is_late_expires_and_is_out_of_the_book(book: Book) -> None:
    late, timely = call(), call()
    book.begin(timely, time.monotonic() + 60)  # type: ignore[arg-type]
    book.begin(late, time.monotonic() + 0.02)  # type: ignore[arg-type]
    wait_until(lambda: book.expired == [late], "the late call")
    assert not book.end(late)  # type: ignore[arg-type]
    assert book.end(timely)  # type: ignore[arg-type]


def test_a_busy_replica_rings_once_a_timeout_not_once_a_call(book: Book) -> None:
    for _ in range(50):
        only = call()
        book.begin(only, time.monotonic() + 60)  # type: ignore[arg-type]
        assert book.end(only)  # type: ignore[arg-type]
        time.sleep(0.001)  # time for the thread to look, and to find the book empty
    assert book.rings <= 3


def test_an_earlier_deadline_is_kept_whatever_rang_before(book: Book) -> None:
    gone, late = call(), call()
    book.begin(gone, time.monotonic() + 30)  # type: ignore[arg-type]
    book.end(gone)  # type: ignore[arg-type]
    time.sleep(0.005)
    began = time.monotonic()
    book.begin(late, began + 0.02)  # type: ignore[arg-type]
    wait_until(lambda: book.expired == [late], "the late call")
    assert time.monotonic() - began < 15


def test_calls_from_many_threads_all_expire(book: Book) -> None:
    calls = [call() for _ in range(200)]

    def begin(part: list[object]) -> None:
        for number, one in enumerate(part):
            book.begin(one, time.monotonic() + 0.001 * (number % 7))  # type: ignore[arg-type]

    threads = [threading.Thread(target=begin, args=(calls[n::8],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    wait_until(lambda: len(book.expired) == 200, "every call")
    assert set(map(id, book.expired)) == set(map(id, calls))


def test_what_comes_after_a_call_that_ended_in_time_does_not_expire_for_it() -> None:
    """A call ends at its deadline, and its connection begins the next one, while the book is being looked through."""
    seen = threading.Event()

    class Calls(dict[object, float]):
        def copy(self) -> dict[object, float]:
            calls = dict(self)
            if any(deadline <= time.monotonic() for deadline in calls.values()):
                assert book.end(connection)  # type: ignore[arg-type]
                book.begin(connection, time.monotonic() + 60)  # type: ignore[arg-type]
            elif calls:
                seen.set()
            return calls

    connection = call()
    book = Book()
    book._calls = Calls()  # type: ignore[assignment]
    book.begin(connection, time.monotonic() - 0.01)  # type: ignore[arg-type]
    assert seen.wait(10)
    assert book.expired == []
    assert book.end(connection)  # type: ignore[arg-type]
