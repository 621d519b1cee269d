"""Throws pages out of everpage when a SQLAlchemy session has committed: for Flask, FastAPI or none of them.

A model names the pages that show it:

    class IceCream(Base):
        def dependent_paths(self):
            return ["/ice-cream/", f"/ice-cream/{self.slug}/"]

and once, where the app is made: `everpage_sqlalchemy.watch(Session)`, with the sessionmaker, the scoped session or
(Flask-SQLAlchemy) `db.session`. Bulk statements (`session.execute(update(...))`) pass the unit of work by: call
`invalidate` after their commit. Not for an AsyncSession: the POST would hold up the event loop.

EVERPAGE_ADMIN_URL and EVERPAGE_TOKEN come from the environment.
"""

import json
import logging
import os
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterable

from sqlalchemy import event, inspect
from sqlalchemy.orm import Session

TIMEOUT_SECONDS = 5
# Waits before further tries, about five minutes in all; then an error in the log names the paths.
PAUSES_SECONDS = [0.5, 1, 2, 5, 10, 30, 60, 60, 60, 60]

log = logging.getLogger("everpage")


def watch(sessions) -> None:
    """From now on each commit of these sessions throws away the pages of what it changed."""
    event.listen(sessions, "before_flush", _collect_old_paths)
    event.listen(sessions, "after_flush", _collect_new_paths)
    event.listen(sessions, "after_commit", _committed)
    event.listen(sessions, "after_rollback", _rolled_back)


def invalidate(paths: Iterable[str], reason: str = "saved") -> None:
    """Posts the paths. The first try is made at once, so that who saved sees the new page; more in the background."""
    if paths := sorted(set(paths)):
        # The same id in each try: everpage makes it one invalidation, even if an answer was lost on the way.
        body = {"paths": paths, "reason": reason, "id": str(uuid.uuid4())}
        if not _post(body):
            threading.Thread(target=_retry, args=(body,), name="everpage").start()


def _retry(body: dict) -> None:
    for pause in PAUSES_SECONDS:
        time.sleep(pause)
        if _post(body):
            return
    log.error("not invalidated, old pages may stay: %s", body["paths"])


def _post(body: dict) -> bool:
    request = urllib.request.Request(
        os.environ["EVERPAGE_ADMIN_URL"].rstrip("/") + "/invalidate",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {os.environ['EVERPAGE_TOKEN']}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            return answer.status == 200
    except OSError as error:  # Refused, timed out, or any answer but 2xx: HTTPError is one of them.
        log.warning("everpage did not take %s: %s", body["paths"], error)
        return False


def _paths(objects) -> Iterable[str]:
    for item in objects:
        if hasattr(item, "dependent_paths"):
            yield from item.dependent_paths()


def _pending(session: Session) -> set[str]:
    return session.info.setdefault("everpage", set())


def _collect_old_paths(session: Session, _context, _instances) -> None:
    """The rows as they are now, read anew on the same connection: slug and relations may be about to change."""
    for item in (*session.dirty, *session.deleted):
        if hasattr(item, "dependent_paths"):
            state = inspect(item)
            connection = session.connection(bind_arguments={"mapper": state.mapper})
            with Session(connection, join_transaction_mode="rollback_only", autoflush=False) as before:
                row = before.get(type(item), state.identity)
                _pending(session).update(_paths([row] if row is not None else []))


def _collect_new_paths(session: Session, _context) -> None:
    _pending(session).update(_paths([*session.new, *session.dirty]))


def _committed(session: Session) -> None:
    # The release of a savepoint comes by here too, and is not a commit.
    if not session.in_nested_transaction():
        invalidate(session.info.pop("everpage", ()))


def _rolled_back(session: Session) -> None:
    # After a savepoint's rollback the rest may still be committed: a page too many is thrown away, never one too few.
    if not session.in_nested_transaction():
        session.info.pop("everpage", None)
