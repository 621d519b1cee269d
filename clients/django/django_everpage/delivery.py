"""How does a committed invalidation reach the proxy, and what if it does not?

The first POST is made at once and waited for: when the view answers, the promise holds. If it fails, then with OUTBOX
the row stays for the next success or `manage.py everpage_relay`; without, a thread of this process repeats it. Order
never matters: invalidations only add up.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.utils.module_loading import import_string

from django_everpage import again, client, conf, outbox, retry
from django_everpage.client import EverpageError
from django_everpage.selection import Selection

logger = logging.getLogger("everpage")

# Paths of one line in the log.
PATHS_IN_LOG = 100

Rows = Mapping[str, list[uuid.UUID]]
# Of tests: they take what would be sent.
recorders: list[Callable[[Selection], None]] = []


class DeliveryFailed(Exception):
    """STRICT: what was committed could not be told to the proxy; it is tried again all the same."""


def write(selection: Selection, using: str) -> uuid.UUID:
    """Into the outbox, in the transaction that is open."""
    return outbox.write(selection, using)


def deliver(selection: Selection, rows: Rows) -> None:
    """Sends what is committed; `rows` are those of the outbox that say the same, by alias."""
    if not selection:
        outbox.delete(rows)  # no page shows what was changed
        return
    if recorders:
        for record in recorders:
            record(selection)
        outbox.delete(rows)
        return
    bodies = list(selection.bodies(outbox.event_of(rows)))
    error = _send_all(bodies)
    if error is None:
        outbox.delete(rows)
        retry.queue.hurry()
        outbox.send_leftovers(rows, send_selection)
        return
    kept = "the outbox keeps it" if rows else "this process tries again"
    logger.error("everpage was not told, %s: %s. %s", kept, error, named(selection))
    outbox.look_soon()
    if not rows:
        retry.queue.add(bodies)
    if conf.get().strict:
        raise DeliveryFailed(f"{error}. {named(selection)}") from error


def send_selection(selection: Selection, event: uuid.UUID | None) -> None:
    """Sends what rows of the outbox say, and what their objects name now; EverpageError if that fails."""
    again.ask(selection)
    for body in selection.bodies(event):
        send(body)


def send(body: Mapping[str, Any]) -> None:
    """One body, by the SENDER; a selector that the proxy rejects is logged and does not take others with it."""
    client.send(body, _by_sender)


def named(selection: Selection) -> str:
    """What it names, for the log: all of a usual one."""
    names = [
        *selection.paths,
        *(f"prefix {name}" for name in selection.prefixes),
        *(f"tag {n}" for n in selection.tags),
    ]
    more = f" and {len(names) - PATHS_IN_LOG} more" if len(names) > PATHS_IN_LOG else ""
    what = "everything" if selection.all else ", ".join(map(repr, names[:PATHS_IN_LOG])) + more
    return f"Named: {what} ({selection.says_why() or 'no reason given'})"


@contextmanager
def recording(record: Callable[[Selection], None]) -> Iterator[None]:
    """Nothing is sent inside, in no thread; `record` gets it."""
    recorders.append(record)
    try:
        yield
    finally:
        recorders.remove(record)


def _send_all(bodies: list[dict[str, Any]]) -> EverpageError | None:
    """The first failure ends it; those before are sent again with it, by the same id."""
    if retry.queue.is_stalled():
        return EverpageError("it did not answer a moment ago, so nobody waits for it now")
    try:
        for body in bodies:
            send(body)
    except EverpageError as error:
        if error.timed_out:
            retry.queue.stall()
        return error
    retry.queue.unstall()
    return None


def _by_sender(body: Mapping[str, Any]) -> Any:
    path = conf.get().sender
    if path is None:
        return client.post(body)
    try:
        return import_string(path)(body)
    except EverpageError:
        raise
    except Exception as error:  # its broker is down
        raise EverpageError(f"{path}: {type(error).__name__}: {error}") from error


retry.queue.send = send
