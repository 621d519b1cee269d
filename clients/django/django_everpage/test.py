"""For the tests of projects: what would be invalidated?

    with assert_invalidates(["/ice-cream/"]):
        flavor.save()

Works in TestCase, whose transaction never commits, as in TransactionTestCase. Nothing is sent inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Lock

from django.db import DEFAULT_DB_ALIAS, connections

from django_everpage import collector, delivery
from django_everpage.selection import Selection

__all__ = ["RecordingClient", "assert_invalidates", "recorded"]


class RecordingClient:
    """Takes the place of the proxy: what was sent is in `posts`, one `Selection` for each POST, in order."""

    def __init__(self) -> None:
        self.posts: list[Selection] = []
        self._lock = Lock()

    def record(self, selection: Selection) -> None:
        with self._lock:
            self.posts.append(selection)

    @property
    def paths(self) -> set[str]:
        return {path for post in self.posts for path in post.paths}

    @property
    def prefixes(self) -> set[str]:
        return {prefix for post in self.posts for prefix in post.prefixes}

    @property
    def tags(self) -> set[str]:
        return {tag for post in self.posts for tag in post.tags}

    @property
    def all(self) -> bool:
        return any(post.all for post in self.posts)

    def clear(self) -> None:
        with self._lock:
            self.posts.clear()


@contextmanager
def recorded(*, using: str | None = None) -> Iterator[RecordingClient]:
    """A `RecordingClient` with what was committed inside and, at the end, what an open transaction would send.

    The second is what a TestCase has; `using` is the alias of that transaction.
    """
    client = RecordingClient()
    alias = using or DEFAULT_DB_ALIAS
    before = len(connections[alias].run_on_commit)
    with delivery.recording(client.record):
        yield client
        waiting = collector.pending(alias, before)
    if waiting:
        client.record(waiting)


@contextmanager
def assert_invalidates(
    paths: Iterable[str] = (), *, prefixes: Iterable[str] = (), tags: Iterable[str] = (), using: str | None = None
) -> Iterator[RecordingClient]:
    """Fails unless exactly these are invalidated inside, in any order and number of POSTs."""
    with recorded(using=using) as client:
        yield client
    complaints = [
        *_compare("path", set(paths), client.paths),
        *_compare("prefix", set(prefixes), client.prefixes),
        *_compare("tag", set(tags), client.tags),
    ]
    if client.all:
        complaints.append("everything was invalidated")
    if complaints:
        raise AssertionError("; ".join(complaints))


def _compare(kind: str, expected: set[str], found: set[str]) -> Iterator[str]:
    for name in sorted(expected - found):
        yield f"the {kind} {name!r} was not invalidated"
    for name in sorted(found - expected):
        yield f"the {kind} {name!r} was invalidated and not expected"
