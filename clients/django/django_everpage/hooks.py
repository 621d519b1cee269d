"""What happens when an object is saved, deleted or linked? Its pages are collected, of before the change and of after.

What stood there before is read from the database, on the same alias and, inside a transaction, with the lock that the
UPDATE takes a moment later: no other transaction can move the row in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import connections
from django.db.models import Model, QuerySet

from django_everpage import collector, conf, dependents, links, site
from django_everpage.selection import Selection

# In the instance's __dict__ between pre_save and post_save.
BEFORE = "_everpage_before"
# In that of an object that loaddata has made.
FROM_FIXTURE = "_everpage_from_fixture"


def selection_of(instance: Model, using: str) -> Selection:
    """What goes when `instance` changes, as it is now."""
    selection = Selection()
    _ask(instance, selection, using)
    return selection


def before_save(instance: Model, raw: bool, using: str, **_: Any) -> None:
    if _is_silent(instance, raw) or _is_new(instance):
        return
    before = instance.__dict__.setdefault(BEFORE, Selection())
    _ask_row(instance, before, using)
    _ask_others(instance, before, using)


def after_save(instance: Model, raw: bool, using: str, created: bool, **_: Any) -> None:
    if raw:
        instance.__dict__[FROM_FIXTURE] = True
    selection = instance.__dict__.pop(BEFORE, None) or Selection()
    if _is_silent(instance, raw):
        return
    for row in _as_stored(instance, using):
        _ask(row, selection, using)
        _ask_ends(row, selection, using)
    _collect(selection, instance, "created" if created else "saved", using)


def before_delete(instance: Model, using: str, **_: Any) -> None:
    """After a delete there is nothing to ask: what depended on the object is told by what it says before."""
    if _is_silent(instance):
        return
    selection = selection_of(instance, using)
    _ask_row(instance, selection, using)
    _ask_ends(instance, selection, using)
    for link in links.links_from(type(instance)):
        _ask_each(link.others(instance, using), selection, using)
    _collect(selection, instance, "deleted", using)


def on_m2m_changed(  # noqa: PLR0913 - the signal's arguments
    sender: type[Model],
    instance: Model,
    reverse: bool,
    pk_set: set[Any] | None,
    using: str,
    raw: bool = False,
    **_: Any,
) -> None:
    """Both ends, before and after: `pre_...` and `post_...` come in pairs, in one transaction."""
    if _is_silent(instance, raw) or pk_set == set():
        return
    selection = selection_of(instance, using)
    _ask_row(instance, selection, using)
    for link in links.link_of(sender, reverse=reverse):
        if site.matters(link.far.remote_field.model):
            _ask_each(link.others(instance, using, pk_set), selection, using)
    _collect(selection, instance, "linked", using)


RECEIVERS = {
    "pre_save": before_save,
    "post_save": after_save,
    "pre_delete": before_delete,
    "m2m_changed": on_m2m_changed,
}


def _collect(selection: Selection, instance: Model, what: str, using: str) -> None:
    if selection:
        collector.add(selection.because(f"{instance._meta.object_name} {instance.pk} {what}"), using)


def _is_silent(instance: Model, raw: bool = False) -> bool:
    config = conf.get()
    if not config.enabled or collector.is_silent():
        return True
    return (raw or FROM_FIXTURE in instance.__dict__) and not config.fixtures


def _is_new(instance: Model) -> bool:
    """There can be no row of it: Django inserts an object with a default key without looking."""
    field, pk = instance._meta.pk, instance.pk
    has_default = field.has_default() or getattr(field, "has_db_default", lambda: False)()
    parts = pk if isinstance(pk, tuple) else (pk,)
    return None in parts or (instance._state.adding and has_default)


def _ask(instance: Model, selection: Selection, using: str) -> None:
    dependents.ask(instance, site.voices(type(instance)), selection)
    _ask_others(instance, selection, using)


def _ask_row(instance: Model, selection: Selection, using: str) -> None:
    """What the row says: `instance` may hold changes that are not saved, or not know those of others."""
    model = type(instance)
    if site.voices(model) or links.fields_through(model):
        for row in _stored(model, site.concrete(model), instance, using, lock=True):
            dependents.ask(row, site.voices(model), selection)
            _ask_ends(row, selection, using)


def _ask_each(instances: Iterable[Model], selection: Selection, using: str) -> None:
    for instance in instances:
        _ask(instance, selection, using)


def _ask_others(instance: Model, selection: Selection, using: str) -> None:
    """Registered proxies and children of the same row, as the database has them."""
    for model, shared in site.others(type(instance)):
        for row in _stored(model, shared, instance, using):
            dependents.ask(row, site.voices(model), selection)


def _ask_ends(row: Model, selection: Selection, using: str) -> None:
    """If `row` is one of a project's own table between, the objects that it links."""
    for name in links.ends(type(row)):
        try:
            end = getattr(row, name)
        except ObjectDoesNotExist:
            continue
        if end is not None:
            _ask(end, selection, using)


def _stored(
    model: type[Model], shared: type[Model], instance: Model, using: str, *, lock: bool = False
) -> Iterator[Model]:
    """The object of `model` that shares the row of `shared` with `instance`, read anew; none or one."""
    pk = getattr(instance, shared._meta.pk.attname)
    rows: QuerySet[Model] = QuerySet(model, using=using).filter(**{shared._meta.pk.name: pk})
    connection = connections[using]
    if lock and connection.in_atomic_block and connection.features.has_select_for_update:
        rows = rows.select_for_update(no_key=connection.features.has_select_for_no_key_update)
    yield from rows


def _as_stored(instance: Model, using: str) -> Iterator[Model]:
    """The object itself; read anew if it holds expressions such as F("price") + 1 instead of values."""
    if any(hasattr(value, "resolve_expression") for value in instance.__dict__.values()):
        return _stored(type(instance), site.concrete(type(instance)), instance, using)
    return iter((instance,))
