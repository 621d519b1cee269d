"""Who is asked about a row, and how is it read? The object itself, what else it is, and what it links.

Nothing is collected here: see `hooks` for when, and `again` for once more after COMMIT.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import connections
from django.db.models import Model, QuerySet

from django_everpage import dependents, links, site
from django_everpage.selection import Selection


def ask(instance: Model, selection: Selection, using: str) -> None:
    """What the object says, and the registered proxies and children of its row."""
    dependents.ask(instance, site.voices(type(instance)), selection)
    ask_others(instance, selection, using)


def ask_row(row: Model, selection: Selection) -> None:
    """What a row says that was read from the database, and what it links if it is of a table between."""
    dependents.ask(row, site.voices(type(row)), selection)
    ask_ends(row, selection, row._state.db or "default")


def ask_each(instances: Iterable[Model], selection: Selection, using: str) -> None:
    for instance in instances:
        ask(instance, selection, using)


def ask_others(instance: Model, selection: Selection, using: str, values: dict[str, Any] | None = None) -> None:
    """Registered proxies and children of the same row, as the database has them; `values` are of before, by attname."""
    for model, shared in site.others(type(instance)):
        for row in stored(model, shared, instance, using):
            row.__dict__.update({name: value for name, value in (values or {}).items() if name in row.__dict__})
            dependents.ask(row, site.voices(model), selection)


def ask_ends(row: Model, selection: Selection, using: str) -> None:
    """If `row` is one of a project's own table between, the objects that it links."""
    for name in links.ends(type(row)):
        try:
            end = getattr(row, name)
        except ObjectDoesNotExist:
            continue
        if end is not None:
            ask(end, selection, using)


def rows_of(instance: Model, using: str, *, lock: str = "") -> Iterator[Model]:
    """The row of `instance` as its own model, none or one: it may hold changes, or not know those of others.

    A row that is about to become a child of another model (`Restaurant(place_ptr=place)`) is there as its ancestors.
    """
    model = type(instance)
    if not (site.matters(model) or links.fields_through(model) or (lock == "delete" and links.links_from(model))):
        return
    found = False
    for row in stored(model, site.concrete(model), instance, using, lock=lock):
        found = True
        yield row
    if found:
        return
    for ancestor in site.lineage(model)[1:]:
        if site.matters(ancestor):
            yield from stored(ancestor, ancestor, instance, using, lock=lock)


def stored(model: type[Model], shared: type[Model], instance: Model, using: str, *, lock: str = "") -> Iterator[Model]:
    """The object of `model` that shares the row of `shared` with `instance`, read anew; none or one.

    `lock` is that of an "update" or a "delete", inside a transaction.
    """
    rows: QuerySet[Model] = QuerySet(model, using=using).filter(**{shared._meta.pk.name: _key(instance, shared)})
    yield from locked(rows, lock) if lock else rows


def locked(rows: QuerySet[Model], lock: str) -> QuerySet[Model]:
    """With the lock that an "update" or a "delete" takes a moment later, if a transaction is open."""
    connection = connections[rows.db]
    if not (connection.in_atomic_block and connection.features.has_select_for_update):
        return rows
    return rows.select_for_update(no_key=lock == "update" and connection.features.has_select_for_no_key_update)


def _key(instance: Model, shared: type[Model]) -> Any:
    """Before it is saved, a child may know its parent's key only by the link to it."""
    key = getattr(instance, shared._meta.pk.attname)
    link = instance._meta.get_ancestor_link(shared) if key is None else None
    return getattr(instance, link.attname) if link else key
