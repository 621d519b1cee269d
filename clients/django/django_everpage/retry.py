"""Without an outbox: what could not be sent is sent by a thread of this process, until it is done or the process ends.

The queue is bounded: what is too much is folded together, and finally becomes "everything". A process that ends tries
once more and logs what it leaves behind.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing.util
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django_everpage import conf
from django_everpage.client import EverpageError
from django_everpage.selection import Selection

logger = logging.getLogger("everpage")

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 15.0
# Bodies that keep their own id; beyond that they are folded together.
MOST_BODIES = 100
# How long nobody waits for a proxy that let somebody wait in vain.
STALL_SECONDS = 10.0


class Queue:
    """Of one process; the child of a fork begins with an empty one, for its parent keeps what it has."""

    send: Callable[[Mapping[str, Any]], None]

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.lock = threading.Lock()
        self.bodies: deque[Mapping[str, Any]] = deque()
        self.folded = Selection()
        self.wake = threading.Event()
        self.thread: threading.Thread | None = None
        self.stalled_until = 0.0
        self.finishes = False

    def __len__(self) -> int:
        with self.lock:
            return len(self.bodies) + bool(self.folded)

    def add(self, bodies: Iterable[Mapping[str, Any]]) -> None:
        with self.lock:
            for body in bodies:
                if len(self.bodies) < MOST_BODIES:
                    self.bodies.append(body)
                else:
                    self.folded.merge(Selection.of_body(body))
            self._finish_at_the_end_of_a_child()
            if self.thread is None or not self.thread.is_alive():
                self.thread = threading.Thread(target=self._run, name="everpage-retry", daemon=True)
                self.thread.start()

    def hurry(self) -> None:
        """The proxy answers again: no need to wait for the pause to end."""
        self.wake.set()

    def stall(self) -> None:
        self.stalled_until = time.monotonic() + STALL_SECONDS

    def unstall(self) -> None:
        self.stalled_until = 0.0

    def is_stalled(self) -> bool:
        return time.monotonic() < self.stalled_until

    def _run(self) -> None:
        """Ends when all is sent."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            self.wake.wait(pause * random.uniform(0.8, 1.2))  # noqa: S311 - no secret, only not all at once
            self.wake.clear()
            try:
                self._send_what_is_there()
            except EverpageError as error:
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                logger.warning("everpage still cannot be told: %s. Next try in %.1f s", error, pause)
            except Exception:
                # This thread is the only one that tries.
                pause = LONGEST_PAUSE_SECONDS
                logger.exception("everpage could not be told; next try in %.1f s", pause)
            else:
                pause = FIRST_PAUSE_SECONDS
            with self.lock:
                if not self.bodies and not self.folded:
                    self.thread = None
                    return

    def _send_what_is_there(self) -> None:
        while (body := self._next()) is not None:
            self.send(body)
            with self.lock:
                if self.bodies and self.bodies[0] is body:
                    self.bodies.popleft()
            self.unstall()
            logger.info("everpage has been told after all: %s", body.get("reason", "no reason given"))

    def _next(self) -> Mapping[str, Any] | None:
        with self.lock:
            if not self.bodies and self.folded:
                self.bodies.extend(self.folded.bodies())
                self.folded = Selection()
            return self.bodies[0] if self.bodies else None

    def _finish_at_the_end_of_a_child(self) -> None:
        """A child of multiprocessing leaves without `atexit`: that library has its own list, anew in each child."""
        if multiprocessing.parent_process() is not None and not self.finishes:
            self.finishes = True
            multiprocessing.util.Finalize(None, self.finish, exitpriority=0)

    def finish(self) -> None:
        """At the end of the process: one more try, within TIMEOUT, and the log for the rest; it is forgotten then."""
        deadline = time.monotonic() + conf.get().timeout_seconds if len(self) else 0.0
        try:
            while time.monotonic() < deadline and (body := self._next()) is not None:
                self.send(body)
                with self.lock:
                    if self.bodies and self.bodies[0] is body:
                        self.bodies.popleft()
        except EverpageError as error:
            logger.warning("everpage cannot be told at the end of the process: %s", error)
        with self.lock:
            left = [*self.bodies, *([self.folded.as_body()] if self.folded else [])]
            self.bodies.clear()
            self.folded = Selection()
        for body in left:
            logger.error("everpage was never told, these pages may stay old: %s", body)


queue = Queue()
atexit.register(queue.finish)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=queue.reset)
