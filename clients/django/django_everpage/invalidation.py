"""Invalidating by hand, and bundling or silencing what the hooks do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from django.db import DEFAULT_DB_ALIAS, connections, router, transaction
from django.db.models import Model, QuerySet

from django_everpage import collector, dependents, hooks, links, site
from django_everpage.selection import Selection, checked_path, checked_tag, refuse_one_string

M = TypeVar("M", bound=Model)


def invalidate(  # noqa: PLR0913 - the keys of everpage's API
    paths: Iterable[str] = (),
    *,
    prefixes: Iterable[str] = (),
    tags: Iterable[str] = (),
    all: bool = False,
    reason: str | None = None,
    using: str | None = None,
) -> None:
    """Invalidates after COMMIT of the transaction on the alias `using` ("default"); now, if there is none.

    A path stands for all its variants, a full URL for those of its host, a prefix for everything at and below it.
    TypeError or ValueError name what is no path; then nothing is invalidated.
    """
    selection = Selection()
    for name, values in (("paths", paths), ("prefixes", prefixes), ("tags", tags)):
        refuse_one_string(values, name)
        check = checked_tag if name == "tags" else checked_path
        selection.add(**{name: [check(value) for value in values]})
    if all:
        selection.take_all()
    collector.add(selection.because(reason or "invalidate()"), using or DEFAULT_DB_ALIAS)


def invalidate_paths(paths: Iterable[str]) -> None:
    """`invalidate`, by django-dumper's name."""
    invalidate(paths)


def invalidate_objects(objects: Iterable[Model], *, using: str | None = None) -> None:
    """As if each object (a queryset, a list) were saved now: for what sends no signals.

    These are `bulk_create`, `bulk_update`, `QuerySet.update` and raw SQL. Where a change moves pages call it before and
    after, with one list and in one transaction, or take `invalidating`: after the change a queryset may find other
    objects. TypeError for an object that has neither `dependent_paths` nor `dependent_tags`.
    """
    if isinstance(objects, QuerySet):
        using = using or router.db_for_write(objects.model)
        objects = objects.iterator(chunk_size=links.AT_ONCE)
    selection, alias = Selection(), using
    for instance in objects:
        alias = alias or router.db_for_write(type(instance), instance=instance)
        if site.matters(type(instance)):
            selection.merge(hooks.as_if_saved(instance, alias))
        elif functions := site.functions_of(type(instance)):
            dependents.ask(instance, functions, selection)
        else:
            raise TypeError(f"{instance!r} has neither dependent_paths() nor dependent_tags()")
    if selection:
        collector.add(selection.because("invalidate_objects()"), alias or DEFAULT_DB_ALIAS)


@contextmanager
def invalidating(queryset: QuerySet[M]) -> Iterator[QuerySet[M]]:
    """`with invalidating(queryset) as rows: rows.update(...)`: as if each object were saved.

    `rows` are the objects that the queryset finds now, by their keys and locked: still the same when the update has
    changed what it was filtered by. All of it is one transaction, and what they name before and after goes after it.
    """
    using = queryset.select_for_update().db  # never a replica, as what is to be locked is read where it is written
    with transaction.atomic(using=using):
        keys = list(queryset.using(using).values_list("pk", flat=True))
        rows: QuerySet[M] = QuerySet(queryset.model, using=using).filter(pk__in=keys)
        no_key = connections[using].features.has_select_for_no_key_update
        invalidate_objects(rows.select_for_update(no_key=no_key), using=using)
        yield rows
        invalidate_objects(rows.all(), using=using)


def batch() -> AbstractContextManager[None]:
    """Everything that is committed inside goes in one POST at its end; also right in async code."""
    return collector.batched()


def silent() -> AbstractContextManager[None]:
    """Nothing that happens inside is collected or sent; also right in async code."""
    return collector.silence()
