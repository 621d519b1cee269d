"""What is to be sent when this transaction commits?

Each change is one `on_commit` hook of Django's, so Django itself drops what a rolled-back savepoint has collected. The
first hook that runs takes what all the others hold, and sends it at once. It finds them through weak references: the
connection owns the hooks, and one that was rolled back is gone with its entry there. (Where garbage is collected late,
as in PyPy, such a hook may be found: then too much is invalidated, never too little.)

Memory is bounded: many hooks are folded into one for each savepoint that is still open, and a hook holds a bounded
`Selection`. What was touched is asked again in the first hook, outside the transaction: see `again`.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from threading import Lock
from typing import Any
from uuid import UUID

from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_everpage import again, conf, delivery
from django_everpage.selection import Selection

logger = logging.getLogger("everpage")

# From here on hooks are folded. Below it each change has its own, as tests that capture hooks expect.
FOLDED_FROM = 1000

_silent: ContextVar[bool] = ContextVar("everpage_silent", default=False)
_batch: ContextVar[Batch | None] = ContextVar("everpage_batch", default=None)


class Hook:
    """One change, or several folded into one, in the transaction of `alias`."""

    def __init__(self, alias: str, selection: Selection, rows: list[UUID]) -> None:
        self.alias = alias
        self.selection = selection
        self.rows = rows  # of the outbox

    def run(self) -> None:
        """After COMMIT: sends everything of the transaction. The hooks that come later find nothing left to do."""
        connection = connections[self.alias]
        # Empty after a real COMMIT. In a TestCase these are hooks whose turn has not come.
        waiting = {id(hook) for _, hook in _waiting(connection)}
        found = [hook for hook in list(_hooks(connection)) if hook is self or id(hook) not in waiting]
        selection = Selection()
        rows: list[UUID] = []
        for hook in found:
            more, more_rows = hook.take()
            selection.merge(more)
            rows += more_rows
        deliver(selection, {self.alias: rows} if rows else {})

    def take(self) -> tuple[Selection, list[UUID]]:
        taken = self.selection, self.rows
        self.selection, self.rows = Selection(), []
        return taken


class Batch:
    """What was committed inside `batch()`."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.selection = Selection()
        self.rows: dict[str, list[UUID]] = {}
        self.open = True

    def add(self, selection: Selection, rows: dict[str, list[UUID]]) -> bool:
        """False: too late, it has been sent."""
        with self.lock:
            if self.open:
                self.selection.merge(selection)
                for alias, more in rows.items():
                    self.rows.setdefault(alias, []).extend(more)
            return self.open


def add(selection: Selection, using: str) -> None:
    """Sends `selection` after COMMIT of the transaction on the alias `using`; now, if there is none."""
    config = conf.get()
    if not selection or not config.enabled or is_silent():
        return
    connection = connections[using]
    rows = [delivery.write(selection, using)] if config.outbox else []
    if len(_hooks(connection)) >= FOLDED_FROM and (hook := _fold(connection)):
        hook.selection.merge(selection)
        hook.rows += rows
        return
    hook = Hook(using, selection, rows)
    _hooks(connection).add(hook)
    if not connection.in_atomic_block and not connection.get_autocommit():
        logger.error(
            "everpage cannot know when this transaction is committed: autocommit is off on %r. It is told now, and a "
            "page that is rendered before COMMIT stays old. Use transaction.atomic(), or invalidate() after commit().",
            using,
        )
        hook.run()
        return
    transaction.on_commit(hook.run, using=using, robust=not config.strict)


def deliver(selection: Selection, rows: dict[str, list[UUID]]) -> None:
    """Asks again, and hands on: into the batch that is open here, else to the proxy."""
    error = again.ask(selection)
    if isinstance(error, DatabaseError):
        # The rows stay for a relay, which asks once more; what is known already is sent now.
        rows = {}
    batch = _batch.get()
    if (selection or rows) and (batch is None or not batch.add(selection, rows)):
        delivery.deliver(selection, rows)
    if error and conf.get().strict:
        raise error


def is_silent() -> bool:
    return _silent.get()


@contextmanager
def silence() -> Iterator[None]:
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


@contextmanager
def batched() -> Iterator[None]:
    """The outermost sends at its end, whether it ended well or not: what is committed is committed."""
    if _batch.get() is not None:
        yield
        return
    batch = Batch()
    token = _batch.set(batch)
    try:
        yield
    finally:
        _batch.reset(token)
        with batch.lock:
            batch.open = False
        if batch.selection or batch.rows:
            _outside_event_loops(delivery.deliver, batch.selection, batch.rows)


def _outside_event_loops(function: Callable[..., None], *arguments: Any) -> None:
    """Called here, or in async code in another thread and waited for: an event loop must not ask the database."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        function(*arguments)
        return

    def call() -> None:
        try:
            function(*arguments)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(copy_context().run, call).result()


def pending(using: str, since: int = 0) -> Selection:
    """What the open transaction would send, of the hooks from number `since` on; asked again now."""
    found = Selection()
    for selection in [hook.selection for _, hook in _waiting(connections[using], since)]:
        found.merge(selection)
    again.ask(found)
    return found


def _hooks(connection: BaseDatabaseWrapper) -> weakref.WeakSet[Hook]:
    """Those of a connection. It belongs to one thread, so they do."""
    hooks: weakref.WeakSet[Hook] | None = connection.__dict__.get("_everpage_hooks")
    if hooks is None:
        hooks = connection.__dict__["_everpage_hooks"] = weakref.WeakSet()
    return hooks


def _waiting(connection: BaseDatabaseWrapper, since: int = 0) -> Iterator[tuple[set[Any], Hook]]:
    """Our hooks of the open transaction, each with the savepoints it was made in."""
    for savepoints, function, *_ in connection.run_on_commit[since:]:
        hook = getattr(function, "__self__", None)
        if isinstance(hook, Hook):
            yield savepoints, hook


def _fold(connection: BaseDatabaseWrapper) -> Hook | None:
    """Leaves one hook for each savepoint that is still open, and gives that of the innermost, if there is one.

    A savepoint that was released can only be rolled back with those around it: what it held belongs to them.
    """
    still_open = set(connection.savepoint_ids)
    kept: dict[frozenset[Any], Hook] = {}
    emptied: set[int] = set()
    for savepoints, hook in _waiting(connection):
        first = kept.setdefault(frozenset(savepoints & still_open), hook)
        if first is not hook:
            selection, rows = hook.take()
            first.selection.merge(selection)
            first.rows += rows
            emptied.add(id(hook))
    if emptied:
        connection.run_on_commit[:] = [
            entry for entry in connection.run_on_commit if id(getattr(entry[1], "__self__", None)) not in emptied
        ]
    return kept.get(frozenset(still_open))
