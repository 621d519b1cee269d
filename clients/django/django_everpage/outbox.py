"""What must survive a crash of the app and of the proxy: rows of `OutboxEntry`, written with what made them necessary.

A row is deleted when the proxy has answered 200. Sending a row twice does no harm, so nothing here needs to be exact
about who sends it: where the database can skip locked rows two relays share the work, elsewhere they may repeat it.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import DatabaseError, connections, router, transaction
from django.db.models import Model
from django.utils import timezone

from django_everpage import conf, site
from django_everpage.client import EverpageError
from django_everpage.selection import Selection

if TYPE_CHECKING:
    from django_everpage.models import OutboxEntry

logger = logging.getLogger("everpage")

# Rows of one round: their names make a few POSTs, and their lock is held no longer than those take.
ROWS_OF_A_ROUND = 500
# How often a process whose sending works looks for rows that others have left.
LOOK_SECONDS = 30.0

# What a database says of itself where nobody can write: a read replica, a server that is set so.
READ_ONLY = {
    "postgresql": "SELECT current_setting('transaction_read_only') = 'on'",
    "mysql": "SELECT @@global.read_only",
    "sqlite": "PRAGMA query_only",
}
# Rows that this process cannot read and so leaves alone.
MOST_UNREADABLE = 500

Send = Callable[[Selection, "uuid.UUID | None"], None]


class _Look:
    """When this process looks next for what others have left."""

    at = 0.0


_unreadable: set[uuid.UUID] = set()


def write(selection: Selection, using: str) -> uuid.UUID:
    """One row on `using`; its database error is the caller's, for it has broken the caller's transaction."""
    from django_everpage.models import OutboxEntry

    return OutboxEntry.objects.using(using).create(body=selection.as_body()).pk


def delete(rows: Mapping[str, Sequence[uuid.UUID]]) -> None:
    """What has been sent. If that fails it is only logged: the rows are sent once more."""
    from django_everpage.models import OutboxEntry

    for alias, ids in rows.items():
        try:
            for start in range(0, len(ids), ROWS_OF_A_ROUND):
                OutboxEntry.objects.using(alias).filter(pk__in=ids[start : start + ROWS_OF_A_ROUND]).delete()
        except DatabaseError:
            logger.warning("rows of the outbox on %r could not be deleted, they are sent again", alias, exc_info=True)


def event_of(rows: Mapping[str, Iterable[uuid.UUID]]) -> uuid.UUID | None:
    """A name for what these rows say together: whoever sends just them sends by the same id."""
    ids = sorted(str(id_) for ids in rows.values() for id_ in ids)
    return uuid.uuid5(uuid.NAMESPACE_OID, ",".join(ids)) if ids else None


def look_soon() -> None:
    """Something was left behind: the next success looks for it."""
    _Look.at = 0.0


def send_leftovers(rows: Iterable[str], send: Send) -> None:
    """After a success: one round of what others have left, on the aliases of `rows`; never fails."""
    if not conf.get().outbox or time.monotonic() < _Look.at:
        return
    # What this process could not send itself needs no patience with those who are about to send.
    min_age = conf.get().timeout_seconds if _Look.at else 0.0
    _Look.at = time.monotonic() + LOOK_SECONDS
    for alias in rows:
        try:
            if relay(alias, send, min_age_seconds=min_age) == ROWS_OF_A_ROUND:
                look_soon()
        except (EverpageError, DatabaseError) as error:
            look_soon()
            logger.warning("what is left in the outbox on %r could not be sent now: %s", alias, error)


def relay(using: str, send: Send, *, min_age_seconds: float = 0.0) -> int:
    """Sends one round of rows that are at least so old, oldest first; how many. EverpageError: they stay."""
    from django_everpage.models import OutboxEntry

    locks = connections[using].features.has_select_for_update_skip_locked
    with transaction.atomic(using=using) if locks else nullcontext():
        entries = OutboxEntry.objects.using(using).order_by("created_at")
        if _unreadable:
            entries = entries.exclude(pk__in=_unreadable)
        if min_age_seconds:
            entries = entries.filter(created_at__lte=timezone.now() - timedelta(seconds=min_age_seconds))
        if locks:
            entries = entries.select_for_update(skip_locked=True)
        found = list(entries[:ROWS_OF_A_ROUND])
        if found:
            _send(found, using, send)
        return len(found)


def waiting(using: str) -> int:
    """Rows that are still to be sent."""
    from django_everpage.models import OutboxEntry

    return OutboxEntry.objects.using(using).count()


def aliases() -> Iterator[str]:
    """Where the table is, by the project's routers."""
    from django_everpage.models import OutboxEntry

    return (alias for alias in connections if router.allow_migrate_model(alias, OutboxEntry))


def is_read_only(using: str) -> bool:
    """A replica: its rows are those of another alias, where they are sent and deleted. Never where routers write to."""
    from django_everpage.models import OutboxEntry

    connection = connections[using]
    question = READ_ONLY.get(connection.vendor)
    models: tuple[type[Model], ...] = (OutboxEntry, *site.registered())
    if question is None or using in map(router.db_for_write, models):
        return False
    with connection.cursor() as cursor:
        cursor.execute(question)
        return bool(cursor.fetchone()[0])


def _send(entries: Sequence[OutboxEntry], using: str, send: Send) -> None:
    selection = Selection()
    sent = []
    for entry in entries:
        try:
            selection.merge(Selection.of_body(entry.body))
        except (AttributeError, TypeError):
            logger.error("row %s of the outbox on %r is none of ours and stays: %r", entry.pk, using, entry.body)
            if len(_unreadable) < MOST_UNREADABLE:
                _unreadable.add(entry.pk)
        else:
            sent.append(entry.pk)
    if sent:
        rows = {using: sent}
        send(selection, event_of(rows))
        delete(rows)
