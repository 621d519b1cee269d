"""Throws pages out of everpage when a SQLAlchemy session has committed: for Flask, FastAPI or none of them.

A model names the pages that show it:

    class IceCream(Base):
        def dependent_paths(self):
            return ["/ice-cream/", f"/ice-cream/{quote(self.slug)}/"]

and once, where the app is made: `everpage_sqlalchemy.watch(Session)`, with the sessionmaker, the scoped session or
(Flask-SQLAlchemy) `db.session`. Bulk statements (`session.execute(update(...))`) pass the unit of work by: call
`invalidate` after their commit. Not for an AsyncSession: the POST would hold up the event loop.

EVERPAGE_ADMIN_URL and EVERPAGE_TOKEN come from the environment.
"""

import atexit
import http.client
import json
import logging
import os
import threading
import time
import urllib.error
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
    paths = sorted(set(paths))
    if paths and (left := _post(_body(paths, reason))):
        # A daemon: a process that is to end does not wait for it.
        threading.Thread(target=_retry, args=(left,), name="everpage", daemon=True).start()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token is for one address."""

    def redirect_request(self, *_):
        return None


# Nor does it go through a proxy that HTTP_PROXY names.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)
# What is to be tried again, by id.
_waiting: dict[str, dict] = {}


def _body(paths: list[str], reason: str) -> dict:
    # The same id in each try: everpage makes it one invalidation, even if an answer was lost on the way.
    return {"paths": paths, "reason": reason, "id": str(uuid.uuid4())}


def _retry(bodies: list[dict]) -> None:
    for pause in PAUSES_SECONDS:
        _waiting.update((body["id"], body) for body in bodies)
        time.sleep(pause)
        tried, bodies = bodies, [left for body in bodies for left in _post(body)]
        for body in tried:
            _waiting.pop(body["id"], None)
        if not bodies:
            return
    log.error("not invalidated, old pages may stay: %s", [path for body in bodies for path in body["paths"]])


@atexit.register
def _last_try() -> None:
    paths = sorted({path for body in list(_waiting.values()) for path in body["paths"]})
    if paths and _post(_body(paths, "the last try of a process that ends")):
        log.error("not invalidated, old pages may stay: %s", paths)


def _post(body: dict) -> list[dict]:
    """What is to be tried again: nothing if everpage has taken it."""
    request = urllib.request.Request(
        os.environ["EVERPAGE_ADMIN_URL"].rstrip("/") + "/invalidate",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {os.environ['EVERPAGE_TOKEN']}", "Content-Type": "application/json"},
    )
    try:
        with _opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
            if answer.status == 200:
                return []
            log.warning("everpage did not take %s: it answered %s", body["paths"], answer.status)
    except urllib.error.HTTPError as refusal:
        with refusal:
            log.warning("everpage did not take %s: %s", body["paths"], refusal)
            if refusal.code == 400:
                return _post_halves(body)
    except (OSError, http.client.HTTPException) as error:  # Refused, timed out, or no HTTP.
        log.warning("everpage did not take %s: %r", body["paths"], error)
    return [body]


def _post_halves(body: dict) -> list[dict]:
    """One wrong path, and everpage does nothing of a body: this finds it, and what was named beside it goes."""
    paths, middle = body["paths"], len(body["paths"]) // 2
    if not middle:
        log.error("rejected, never to be invalidated: %s", paths[0])
        return []
    return [left for half in (paths[:middle], paths[middle:]) for left in _post(_body(half, body["reason"]))]


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
