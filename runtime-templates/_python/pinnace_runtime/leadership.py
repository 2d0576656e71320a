"""Which thread leads: waits for all connections, reads what arrives, and runs quick handlers itself.

The pattern is Leader/Followers (Schmidt, Stal, Rohnert, Buschmann: Pattern-Oriented Software Architecture 2). One thread
leads at a time; a call never changes threads, leadership does. A handler that returns at once is run by the leader as it
comes: no other thread wakes, none waits for the interpreter's lock, and a trivial call takes 14 µs of CPU, where with a
thread for each of 50 connections it takes 45. A handler that does not return at once must not hold the others, so:

- The *watch*, one of the followers, looks every `TICK_S` whether the leader still runs what it ran at the last look. If
  so, the watch leads from then on; the overtaken thread finishes its call and becomes a follower. Go's `sysmon` does
  that for a thread in a system call. While no calls come the watch sleeps: an idle process costs nothing.
- The leader weighs what it loses: the time for which handlers wait (for a database, say) instead of working. Where that
  is more than `THREAD_COSTS_S` a call, calls run *apart*: the leader steps down before each, a follower leads, and the
  thread stays with its connection for a while. So 50 calls of 100 ms start within a few milliseconds. After `_apart_for`
  such calls the leader tries again to run them itself, more rarely each time that this was a mistake.

A handler that computes in Python is not run apart, and is overtaken only after `COMPUTES_S`: one thread at a time has the
interpreter's lock, so that two such calls side by side only take longer.

Every change of leadership is made under one lock, together with taking the call's connection out of the leader's hands.
The call of a quick handler takes no lock: a dict with the running call is the token, and who pops it leads.

There is a leader at every moment, also when memory runs out, which can end a thread before its first line and any line with
an exception. So leadership is handed only to threads that are known to live, and who leads is told by the threads' roles,
not by how `lead()` ended: a leader whom an exception threw out of it leads on.
"""

from __future__ import annotations

import _thread
import time

from pinnace_runtime import logs

TYPE_CHECKING = False  # importing typing takes 5 ms; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable

    from pinnace_runtime.thread_connection import Connection

TICK_S = 0.0005
IDLE_THREAD_S = 10.0

THREAD_COSTS_S = 40e-6  # of the interpreter's time, for a call apart: two threads are woken, each waits for the lock
WEIGHS_ABOVE_S = 50e-6  # quicker handlers are not weighed: there is too little to lose for two looks at a clock
LOST_AT_MOST_S = 2 * TICK_S
FORGETS = 1 / 64  # means are exponential, over the last 64 calls or so: three overtaken ones in a row are enough
LATE_S = TICK_S + 0.0005  # when a tick takes that long, the watch had to wait for the lock: the handler computes
COMPUTES_S = 0.006
FEWEST_APART, MOST_APART = 64, 8192
ARRIVES_WITHIN_S = 1.0  # a new thread that has not by then is taken for dead
AFTER_FAULT_S = 0.02

_ARRIVES, _CALLS, _RESTS, _WATCHES, _LEADS = "arrives", "calls", "rests", "watches", "leads"


class _Follower:
    """A thread of the pool. While it rests or watches, it sleeps until its alarm rings, and then finds its role changed.

    It arrives, and whenever it has done what it was to do, it `calls`: it is on its way from a call that took its time.
    """

    __slots__ = ("_alarm", "role")

    def __init__(self) -> None:
        self._alarm = _thread.allocate_lock()
        self._alarm.acquire()
        self.role = _ARRIVES

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
        self.apart = False  # calls take their time: the leader steps down before each
        self.weighs = False  # calls may take their time: the leader's CPU time tells how much of it is waiting
        self._lead = lead
        self._let_go = let_go
        self._most_threads = 0
        self._threads = 0
        self._arrives_by = 0.0  # the thread that was started last has not arrived yet; 0.0: none is awaited
        self._leader = _Follower()
        self._running: dict[Connection, bool] = {}  # the call whose handler the leader runs; empty otherwise
        self._turn = 0
        self._turn_tried = 0
        self._mean_s = 0.0
        self._lost_s = 0.0
        self._apart_for = FEWEST_APART
        self._apart_left = 0
        self._resting: list[_Follower] = []
        self._watch: _Follower | None = None
        self._watch_sleeps = False

    def start(self, most_threads: int) -> None:
        """Start the first leader and the watch. Raises RuntimeError where no thread can be started."""
        self._most_threads = most_threads
        self._leader.role = _LEADS
        self._threads = 1
        _thread.start_new_thread(self._run, (self._leader,))
        self._appoint_watch()

    def begin(self, call: Connection) -> bool:
        """The leader is about to do for `call` what may take its time. Whether it leads on meanwhile.

        `end` has to follow where it does; where it does not, the thread has become one like any other.
        """
        return not (self.apart and self._step_down(call)) and self.watch(call)

    def watch(self, call: Connection) -> bool:
        """The same for what takes its time only now and then: the leader does not step down for it, it is only watched."""
        self._turn += 1
        self._running[call] = True
        if self._watch_sleeps:
            self._wake_watch()
        elif self._watch is None:
            self._appoint_watch()
        return True

    def end(self, call: Connection) -> bool:
        """The thread that was told to lead on is through with it. Whether it still leads."""
        if not self._running.pop(call, False):
            with self.lock:  # who overtook has also let go of the connection by the time that this can be had
                return False
        return True

    def forsake(self, call: Connection) -> None:
        """Something failed on `call`, perhaps a change of leadership: it has no turn, and who leads or watches knows it."""
        self.end(call)
        self._leader.ring()
        if watch := self._watch:
            watch.ring()

    def ran(self, seconds: float, waited_s: float) -> None:
        """The leader ran a call, which took so long, and waited for so long of it (0 where that was not weighed)."""
        self._mean_s += (min(seconds, LOST_AT_MOST_S) - self._mean_s) * FORGETS
        self.weighs = self._mean_s > WEIGHS_ABOVE_S
        self._lost(waited_s)

    def ran_apart(self) -> None:
        """Another thread ran a call."""
        if self.apart:
            self._apart_left -= 1
            if self._apart_left <= 0:
                self.apart = False
                self._lost_s = 0.0
                self._turn_tried = self._turn

    def _lost(self, seconds: float) -> None:
        self._lost_s += (min(seconds, LOST_AT_MOST_S) - self._lost_s) * FORGETS
        if self._lost_s > THREAD_COSTS_S + self._mean_s / 8 and not self.apart:
            mistaken = self._turn - self._turn_tried < MOST_APART
            self._apart_for = min(2 * self._apart_for, MOST_APART) if mistaken else FEWEST_APART
            self._apart_left = self._apart_for
            self.apart = True

    # Changes of leadership.

    def _step_down(self, call: Connection) -> bool:
        """Have another thread lead. False where none is there: one that is started here overtakes when it arrives."""
        with self.lock:
            follower = self._resting[-1] if self._resting else None
            if follower is None and not self._start_thread():
                follower = self._watch
            if follower is None:
                return False
            self._let_go(call)
            self._lead_with(follower)
            if follower is self._watch:
                self._watch = None
            else:
                self._resting.pop()
            follower.ring()
            return True

    def _overtake(self, follower: _Follower) -> bool:
        """Have `follower`, whose thread this is, lead instead of the thread whose handler still runs. False if that is back."""
        with self.lock:
            return self._overtake_locked(follower)

    def _overtake_locked(self, follower: _Follower) -> bool:
        try:
            call, _ = self._running.popitem()
        except KeyError:
            return False
        self._let_go(call)
        self._lead_with(follower)
        if follower is self._watch:
            self._watch = None
        return True

    def _lead_with(self, follower: _Follower) -> None:
        self._leader.role = _CALLS
        self._leader = follower
        follower.role = _LEADS

    def _wake_watch(self) -> None:
        self._watch_sleeps = False
        if watch := self._watch:
            watch.ring()

    def _appoint_watch(self) -> None:
        with self.lock:
            if self._watch is not None:
                return
            if self._resting:
                self._watch = self._resting.pop()
                self._watch.role = _WATCHES
                self._watch.ring()
            else:
                self._start_thread()

    # The life of a thread.

    def _start_thread(self) -> bool:
        """Start one more thread, if there may be one more, there is room for it, and none is on its way. Whether one is.

        What it is to do it sees when it arrives (`_rest`).
        """
        now = time.monotonic()
        if now < self._arrives_by:
            return True
        if self._threads >= self._most_threads:
            return False
        try:
            _thread.start_new_thread(self._run, (_Follower(),))
        except (RuntimeError, MemoryError):
            return False
        self._arrives_by = now + ARRIVES_WITHIN_S
        return True

    def _run(self, follower: _Follower) -> None:
        fault: BaseException | None = None
        while True:
            try:
                if fault is not None:
                    _bear(fault)
                    fault = None
                if follower.role is _LEADS:
                    with self.lock:
                        if follower.role is not _LEADS:
                            continue
                        self._running.clear()  # it may lead on after a fault: what it ran then is over
                    self._lead()
                elif follower.role is _WATCHES:
                    self._stand_watch(follower)
                elif not self._rest(follower):
                    return
            except BaseException as error:  # memory has run out, or a fault of this runtime's
                fault = error

    def _stand_watch(self, watch: _Follower) -> None:
        """Return when this thread leads: it overtook the leader, or that stepped down and found no other."""
        self._watch_sleeps = False
        turn, seen_at = -1, 0.0
        while watch.role is _WATCHES:
            now = time.monotonic()
            if self._turn != turn:
                turn, seen_at = self._turn, now
            if watch.sleep(TICK_S):
                continue
            if self._running:
                woke_at = time.monotonic()
                computes = woke_at - now > LATE_S
                if self._turn == turn and (not computes or woke_at - seen_at > COMPUTES_S) and self._overtake(watch):
                    if not computes:
                        self._lost(LOST_AT_MOST_S)
                    return
            elif self._turn - turn < 2:
                self._watch_sleeps = True
                if not self._running:  # a call that began in between has seen that this thread sleeps, or is seen here
                    watch.sleep()
                self._watch_sleeps = False

    def _rest(self, follower: _Follower) -> bool:
        """Wait until this thread is to lead or to watch. False when it was not needed for long: it ends."""
        with self.lock:
            if follower.role is _ARRIVES:
                self._threads += 1
                self._arrives_by = 0.0
                follower.role = _CALLS
            if follower.role is _CALLS:
                if self._running:  # threads had run out
                    if self.apart and self._overtake_locked(follower):
                        return True
                    if self._watch is None:
                        self._watch = follower
                        follower.role = _WATCHES
                        return True
                self._resting.append(follower)
                follower.role = _RESTS
        while True:
            rang = follower.sleep(IDLE_THREAD_S)
            with self.lock:
                if follower.role is not _RESTS:
                    return True
                if not rang:
                    self._threads -= 1
                    self._resting.remove(follower)
                    return False


def _bear(error: BaseException) -> None:
    """Go on after an exception that nobody expected, not at once: what lacked may be there again then."""
    if not isinstance(error, MemoryError):
        logs.log_exception(error)
    time.sleep(AFTER_FAULT_S)
