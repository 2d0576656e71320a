"""Which thread leads: waits for all connections, reads what arrives, and runs quick handlers itself.

The pattern is Leader/Followers (Schmidt, Stal, Rohnert, Buschmann: Pattern-Oriented Software Architecture 2). One thread
leads at a time; a call never changes threads, leadership does. A handler that returns at once is run by the leader as it
comes: no other thread wakes, none waits for the interpreter's lock, and a trivial call costs a third of what it costs
with a thread for each connection. A handler that does not return at once must not hold the others, so:

- The *watch*, one of the followers, looks each `TICK_S` whether the leader still runs the handler that it ran at the
  last look. If so it leads from then on; the handler's thread finishes its call and becomes a follower. That is what Go's
  `sysmon` does for a thread in a system call. While no handler runs the watch sleeps: an idle process costs nothing.
- Where more than `SLOW_SHARE` of the calls would have been overtaken, the leader steps down before each call: a follower
  leads, the call starts in the thread that read it, and 50 calls of 100 ms start within a few milliseconds. That costs
  the waking of a thread, about 40 µs, where an overtaken call costs a tick or two: 2 in 100 is where the two are equal.

Every change of leadership is made under one lock, together with taking the call's connection out of the leader's hands.
The call of a quick handler takes no lock: a list with the running call is the token, and who pops it leads.
"""

from __future__ import annotations

import _thread

TYPE_CHECKING = False  # importing typing takes 5 ms; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable

    from pinnace_runtime.thread_connection import Connection

TICK_S = 0.001
IDLE_THREAD_S = 10.0

SLOW_SHARE = 0.04
QUICK_SHARE = 0.01
FORGETS = 1 / 64  # the share is an exponential mean over the last 64 calls or so: three slow ones in a row are enough

_RESTS, _WATCHES, _LEADS = "rests", "watches", "leads"


class _Follower:
    """A thread of the pool. While it rests or watches, it sleeps until its alarm rings, and then finds its role changed."""

    __slots__ = ("_alarm", "role")

    def __init__(self) -> None:
        self._alarm = _thread.allocate_lock()
        self._alarm.acquire()
        self.role = _RESTS

    def ring(self) -> None:
        try:
            self._alarm.release()
        except RuntimeError:
            return  # it rings already

    def sleep(self, seconds: float = -1) -> bool:
        """Wait for the alarm, or for so many seconds. Whether it rang."""
        return self._alarm.acquire(timeout=seconds)


class Leadership:
    """Runs `lead()` in one thread at a time; it returns when its thread leads no more and has finished its call.

    `let_go(call)` takes the call's connection out of the leader's hands.
    """

    def __init__(self, lead: Callable[[], None], let_go: Callable[[Connection], None]) -> None:
        self.lock = _thread.allocate_lock()
        self.steps_down = False  # before each call, since calls take their time
        self._lead = lead
        self._let_go = let_go
        self._most_threads = 0
        self._threads = 0
        self._running: list[Connection] = []  # the call whose handler the leader runs; empty otherwise
        self._turn = 0
        self._slow_share = 0.0
        self._resting: list[_Follower] = []
        self._watch: _Follower | None = None
        self._watch_sleeps = False

    def start(self, most_threads: int) -> None:
        """Start the first leader and the watch. Raises RuntimeError where no thread can be started."""
        self._most_threads = most_threads
        first = self._start_thread()
        if first is None:
            raise RuntimeError("no thread can be started")
        first.role = _LEADS
        first.ring()
        self._appoint_watch()

    def begin(self, call: Connection) -> bool:
        """The leader is about to do for `call` what may take its time. Whether it leads on meanwhile.

        `end` has to follow where it does; where it does not, the thread is like any other, and `took` tells how long it was.
        """
        if self.steps_down and self._step_down(call):
            return False
        self._turn += 1
        self._running.append(call)
        if self._watch_sleeps:
            self._wake_watch()
        elif self._watch is None:
            self._appoint_watch()
        return True

    def end(self) -> bool:
        """The thread that was told to lead on is through with it. Whether it still leads."""
        try:
            self._running.pop()
        except IndexError:
            with self.lock:  # who overtook has also let go of the connection by the time that this can be had
                return False
        if self._slow_share:
            self._count(0.0)
        return True

    def took(self, seconds: float) -> None:
        """A call in a thread that does not lead took so long."""
        if self._slow_share or seconds > TICK_S:
            self._count(1.0 if seconds > TICK_S else 0.0)

    def _count(self, slow: float) -> None:
        share = self._slow_share + (slow - self._slow_share) * FORGETS
        self._slow_share = share if share > FORGETS * QUICK_SHARE else 0.0
        if share > SLOW_SHARE:
            self.steps_down = True
        elif share < QUICK_SHARE:
            self.steps_down = False

    # Changes of leadership.

    def _step_down(self, call: Connection) -> bool:
        """Have another thread lead. False where there is none and none can be started."""
        with self.lock:
            follower = self._resting.pop() if self._resting else self._start_thread()
            if follower is None:
                follower, self._watch = self._watch, None
                if follower is None:
                    return False
            self._let_go(call)
            follower.role = _LEADS
            follower.ring()
            return True

    def _overtake(self) -> bool:
        """Lead instead of the thread whose handler still runs. False if that is back."""
        with self.lock:
            try:
                call = self._running.pop()
            except IndexError:
                return False
            self._watch = None
            self._let_go(call)
        self._count(1.0)
        return True

    def _wake_watch(self) -> None:
        self._watch_sleeps = False
        if watch := self._watch:
            watch.ring()

    def _appoint_watch(self) -> None:
        with self.lock:
            if self._watch is None:
                self._watch = self._resting.pop() if self._resting else self._start_thread()
                if self._watch is not None:
                    self._watch.role = _WATCHES
                    self._watch.ring()

    # The life of a thread.

    def _start_thread(self) -> _Follower | None:
        """Start one more thread, if there may be one more and there is room for it. It begins when it is rung."""
        if self._threads >= self._most_threads:
            return None
        follower = _Follower()
        try:
            _thread.start_new_thread(self._run, (follower,))
        except (RuntimeError, MemoryError):
            return None
        self._threads += 1
        return follower

    def _run(self, follower: _Follower) -> None:
        follower.sleep()
        while True:
            if follower.role is _WATCHES:
                self._stand_watch(follower)
            self._lead()
            if not self._rest(follower):
                return

    def _stand_watch(self, watch: _Follower) -> None:
        """Return when this thread leads: it overtook the leader, or that stepped down and found no other."""
        while watch.role is _WATCHES:
            turn = self._turn
            if watch.sleep(TICK_S):
                continue
            if self._running:
                if self._turn == turn and self._overtake():
                    return
            elif self._turn - turn < 2:
                self._watch_sleeps = True
                if not self._running:  # a call that began in between has seen that this thread sleeps, or is seen here
                    watch.sleep()
                self._watch_sleeps = False

    def _rest(self, follower: _Follower) -> bool:
        """Wait until this thread is to lead or to watch. False when it was not needed for long: it ends."""
        with self.lock:
            if self._watch is None and self._running:  # threads had run out: the leader is not watched
                self._watch = follower
                follower.role = _WATCHES
                return True
            follower.role = _RESTS
            self._resting.append(follower)
        while True:
            rang = follower.sleep(IDLE_THREAD_S)
            with self.lock:
                if follower.role is not _RESTS:
                    return True
                if not rang:
                    self._resting.remove(follower)
                    self._threads -= 1
                    return False
