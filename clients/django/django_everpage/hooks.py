"""What happens when an object is saved, deleted or linked? Its pages are collected, of before the change and of after.

What stood there before is read from the database, on the same alias and, inside a transaction, with the lock that the
UPDATE or DELETE takes a moment later: no other transaction can move the row in between. A DELETE takes the strong lock,
so nobody can link anything to the row that then goes unseen. Adding and removing links locks nothing: they are named
one by one, and asked again after COMMIT (see `again`, which also says why that is enough).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import Error, connections
from django.db.models import Model, QuerySet

from django_everpage import again, asking, collector, conf, links, site
from django_everpage.selection import Selection

logger = logging.getLogger("everpage")

# In the instance's __dict__ between pre_save and post_save.
BEFORE = "_everpage_before"
# In that of an object that loaddata has made.
FROM_FIXTURE = "_everpage_from_fixture"


@dataclass
class Before:
    """What was known when a save began."""

    selection: Selection = field(default_factory=Selection)
    row: Model | None = None


def selection_of(instance: Model, using: str) -> Selection:
    """What goes when `instance` changes, as it is now."""
    selection = Selection()
    asking.ask(instance, selection, using)
    return selection


def as_if_saved(instance: Model, using: str) -> Selection:
    """The same for a row that was just read; and it is asked again after COMMIT."""
    selection = selection_of(instance, using)
    asking.ask_ends(instance, selection, using)
    selection.touch(again.touched(instance, using, was=True))
    return selection


def before_save(instance: Model, raw: bool, using: str, **_: Any) -> None:
    if _is_silent(instance, raw):
        return
    # There may be one already: a receiver of post_save that was called before ours saves the object once more.
    before = instance.__dict__.setdefault(BEFORE, Before())
    if not _is_new(instance):
        row = _ask_rows(instance, before.selection, using, lock="update")
        before.row = before.row or row
        asking.ask_others(instance, before.selection, using)


def after_save(instance: Model, raw: bool, using: str, created: bool, **_: Any) -> None:
    if raw:
        instance.__dict__[FROM_FIXTURE] = True
    before = instance.__dict__.pop(BEFORE, None) or Before()
    if _is_silent(instance, raw):
        return
    selection = before.selection
    with _collected(selection, _reason(instance, "created" if created else "saved"), using):
        selection.touch(again.touched(instance, using))
        for row in _as_stored(instance, using):
            asking.ask(row, selection, using)
            asking.ask_ends(row, selection, using)


def after_failed_save(instance: Model, using: str) -> None:
    """`save()` has raised. If a receiver did it, the row may be written all the same: then its pages go."""
    before: Before | None = instance.__dict__.pop(BEFORE, None)
    if before is None or _is_new(instance) or connections[using].needs_rollback:
        return
    model = type(instance)
    try:
        row = next(asking.stored(model, site.concrete(model), instance, using), None)
    except Error:
        return  # nothing more can be known; the error of the save is the one to be seen
    if row is None or (before.row is not None and _was(row, using) == _was(before.row, using)):
        return
    with _collected(before.selection, _reason(instance, "saved"), using):
        before.selection.touch(again.touched(row, using))
        asking.ask(row, before.selection, using)


def before_delete(instance: Model, using: str, **_: Any) -> None:
    """After a delete there is nothing to ask: what depended on the object is told by what it says before."""
    if _is_silent(instance):
        return
    selection = Selection()
    with _collected(selection, _reason(instance, "deleted"), using):
        _ask_rows(instance, selection, using, lock="delete")
        asking.ask(instance, selection, using)
        asking.ask_ends(instance, selection, using)
        for link in links.links_from(type(instance)):
            _ask_and_touch(link.others(instance, using), selection, using)


def on_m2m_changed(  # noqa: PLR0913 - the signal's arguments
    sender: type[Model],
    instance: Model,
    action: str,
    reverse: bool,
    pk_set: set[Any] | None,
    using: str,
    raw: bool = False,
    **_: Any,
) -> None:
    """Both ends, before and after: `pre_...` and `post_...` come in pairs, in one transaction."""
    if _is_silent(instance, raw) or pk_set == set():
        return
    selection = Selection()
    with _collected(selection, _reason(instance, "linked"), using):
        # Which links a clear() takes along is known by looking only, so none may come after the look.
        _ask_rows(instance, selection, using, lock="delete" if action == "pre_clear" else "")
        asking.ask(instance, selection, using)
        for link in links.link_of(sender, reverse=reverse):
            if site.matters(link.far.remote_field.model):
                _ask_and_touch(link.others(instance, using, pk_set), selection, using)


@contextmanager
def moving(model: type[Model], pks: Collection[Any], using: str) -> Iterator[None]:
    """Inside, an UPDATE without signals changes these rows, in a transaction: as if each were saved."""
    selection = Selection()
    for rows in _parts(model, pks, using):
        for row in asking.locked(rows.order_by("pk"), "update"):
            selection.merge(as_if_saved(row, using))
    yield
    with _collected(selection, f"{model._meta.object_name} objects linked", using):
        for rows in _parts(model, pks, using):
            for row in rows:
                asking.ask(row, selection, using)
                asking.ask_ends(row, selection, using)


RECEIVERS = {
    "pre_save": before_save,
    "post_save": after_save,
    "pre_delete": before_delete,
    "m2m_changed": on_m2m_changed,
}


@contextmanager
def _collected(selection: Selection, reason: str, using: str) -> Iterator[None]:
    """What is known by the end goes, also if asking for more has failed; then that failure is the one to be seen."""
    selection.because(reason)
    try:
        yield
    except Exception:
        try:
            collector.add(selection, using)
        except Exception:
            logger.exception("what %s would invalidate could not be collected", selection.reason)
        raise
    collector.add(selection, using)


def _parts(model: type[Model], pks: Collection[Any], using: str) -> Iterator[QuerySet[Model]]:
    ordered = list(pks)
    for start in range(0, len(ordered), links.AT_ONCE):
        yield QuerySet(model, using=using).filter(pk__in=ordered[start : start + links.AT_ONCE])


def _reason(instance: Model, what: str) -> str:
    return f"{instance._meta.object_name} {instance.pk} {what}"


def _is_silent(instance: Model, raw: bool = False) -> bool:
    config = conf.get()
    if not config.enabled or collector.is_silent():
        return True
    return (raw or FROM_FIXTURE in instance.__dict__) and not config.fixtures


def _is_new(instance: Model) -> bool:
    """There can be no row of it. A key alone, such as a UUID by default, does not say so: it may be that of a row."""
    pk = instance.pk
    return None in (pk if isinstance(pk, tuple) else (pk,))


def _was(row: Model, using: str) -> Any:
    return again.touched(row, using, was=True)


def _ask_rows(instance: Model, selection: Selection, using: str, *, lock: str) -> Model | None:
    """What the database says: `instance` may hold changes that are not saved, or not know those of others."""
    last = None
    for row in asking.rows_of(instance, using, lock=lock):
        last = row
        selection.touch(again.touched(row, using, was=True))
        asking.ask_row(row, selection)
    return last


def _ask_and_touch(instances: Iterable[Model], selection: Selection, using: str) -> None:
    for instance in instances:
        selection.touch(again.touched(instance, using))
        asking.ask(instance, selection, using)


def _as_stored(instance: Model, using: str) -> Iterator[Model]:
    """The object itself; read anew if it holds expressions such as F("price") + 1 instead of values."""
    if any(hasattr(value, "resolve_expression") for value in instance.__dict__.values()):
        return asking.stored(type(instance), site.concrete(type(instance)), instance, using)
    return iter((instance,))
