"""Many-to-many relations: which objects are at the other end?

A link is one direction of one relation. Rows are read from the table between, so it does not matter which manager,
filter or prefetch the project's own code uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

from django.apps import apps
from django.db.models import ManyToManyField, Model, QuerySet

from django_everpage import site

# Objects that are read at once: below SQLite's oldest limit of parameters.
AT_ONCE = 500


class Link(NamedTuple):
    """From the object that `near` of the table between points to, to the one that `far` points to."""

    through: type[Model]
    near: Any  # ForeignKey
    far: Any  # ForeignKey

    def others(self, instance: Model, using: str, values: Iterable[Any] | None = None) -> Iterator[Model]:
        """The objects at the other end: those of `values` (of the field that `far` points to), else all linked ones."""
        if values is None:
            value = getattr(instance, self.near.target_field.attname)
            rows: QuerySet[Model] = QuerySet(self.through, using=using).filter(**{self.near.attname: value})
            values = rows.values_list(self.far.attname, flat=True).iterator()
        model, key = self.far.remote_field.model, self.far.target_field.attname
        remaining = iter(values)
        while part := list(islice(remaining, AT_ONCE)):
            yield from QuerySet(model, using=using).filter(**{f"{key}__in": part})


@cache
def links_from(model: type[Model]) -> tuple[Link, ...]:
    """All links that begin at an object of `model` and end at one that has something to say."""
    fields = (field for other in apps.get_models() for field in other._meta.local_many_to_many)
    links = (link for field in fields if is_resolved(field) for link in _both(field))
    return tuple(
        link
        for link in dict.fromkeys(links)
        if site.concrete(link.near.remote_field.model) in site.lineage(model)
        and site.matters(link.far.remote_field.model)
    )


@cache
def fields_through(through: type[Model]) -> tuple[ManyToManyField[Any, Any], ...]:
    """The many-to-many fields whose table is `through`; usually one, none for other models."""
    fields = (field for model in apps.get_models() for field in model._meta.local_many_to_many)
    return tuple(field for field in fields if field.remote_field.through is through)


def link_of(through: type[Model], *, reverse: bool) -> Iterator[Link]:
    """The direction in which a relation was changed."""
    for field in fields_through(through):
        forward, backward = _both(field)
        yield backward if reverse else forward


def ends(through: type[Model]) -> Iterator[str]:
    """The names of the foreign keys of a table between; none for any other model."""
    for field in fields_through(through):
        yield from (field.m2m_field_name(), field.m2m_reverse_field_name())


def is_resolved(field: Any) -> bool:
    """Both models that it names are known: not so while a project makes its models."""
    return not isinstance(field.remote_field.through, str | None) and not isinstance(field.remote_field.model, str)


def _both(field: Any) -> tuple[Link, Link]:
    through = field.remote_field.through
    near = through._meta.get_field(field.m2m_field_name())
    far = through._meta.get_field(field.m2m_reverse_field_name())
    return Link(through, near, far), Link(through, far, near)


def forget() -> None:
    """The models or what is registered have changed."""
    links_from.cache_clear()
    fields_through.cache_clear()
