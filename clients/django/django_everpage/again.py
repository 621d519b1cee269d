"""Which pages show what was changed, as the database stands after COMMIT?

Asking before COMMIT is not enough. A transaction sees what was committed before it asked; of two that change a page
together, neither may see the other:

    T1 renames a maker; it has no ice cream yet, so the answer is no page of one
    T2 adds an ice cream of that maker, COMMIT; a visitor comes, and the page with the old name is stored
    T1 COMMIT; the pages that it was told of before do not include this one

So a change remembers the keys of the rows that it touched, and after COMMIT they are read and asked anew, before the
POST. Then, whatever the order of two COMMITs, the later one names the page. For a page that is not what the database
says after the later COMMIT was stored before it, and what it shows was changed by it: it shows a row that this
transaction touched, either as the row is now, or as it was.

- As it is now: it is asked now, and sees all that was committed earlier, the other transaction's changes included.
- As it was: an old version is built of the values that the row had, and asked now too, so that the objects that it
  pointed to are those of now (a maker that T2 has renamed in between lists the ice cream at an address that T1 never
  saw). These values were there up to the COMMIT, for the row was locked from when it was read. Links of a many-to-many
  relation have two ends, and both were touched; where a row is deleted or its links are cleared, the lock is the strong
  one, so that nobody else can commit a new link to it before.

What the objects said before COMMIT is kept all the same. A transaction that commits after the question was asked is
itself the later one. Nothing here depends on the isolation level, for the questions are asked outside the transaction.

The bounds: `MOST_TOUCHED` objects, beyond which everything goes; of an old version, values up to `LONGEST_VALUE`. With
OUTBOX the keys stand in the row, so a relay asks again as well.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

from django.apps import apps
from django.db import DatabaseError, connections, transaction
from django.db.models import Model, QuerySet

from django_everpage import asking, dependents, site
from django_everpage.links import AT_ONCE
from django_everpage.selection import Selection, Touched

logger = logging.getLogger("everpage")

# Characters; longer ones are the text of a page rather than a part of its address.
LONGEST_VALUE = 1000


def touched(instance: Model, using: str, *, was: bool = False) -> Touched:
    """The key of a saved object; with `was`, its values too: those of a row that is about to change."""
    model = type(instance)
    pk = site.concrete(model)._meta.pk.value_to_string(instance)
    return Touched(using, model._meta.label, pk, _values(instance) if was else "")


def ask(selection: Selection) -> Exception | None:
    """Puts what the touched objects name now in their place. Never raises: the first error that was more than logged.

    That is a DatabaseError, after which it is worth asking once more; else what STRICT demands to be raised.
    """
    groups: dict[tuple[str, str], dict[str, list[str]]] = {}
    for alias, label, pk, was in selection.touched:
        groups.setdefault((alias, label), {}).setdefault(pk, []).append(was)
    selection.touched.clear()
    errors: list[Exception] = []
    for (alias, label), objects in groups.items():
        try:
            model = apps.get_model(label)
            pks = iter(objects)
            while part := list(islice(pks, AT_ONCE)):
                _ask_part(model, alias, {pk: objects[pk] for pk in part}, selection, errors)
        except Exception as error:  # the database is gone; or the model or alias is, with another version of the app
            logger.error(
                "%s on %r could not be asked again after COMMIT. Pages may stay old.", label, alias, exc_info=True
            )
            errors.append(error)
        if selection.all:
            break
    return next((error for error in errors if isinstance(error, DatabaseError)), errors[0] if errors else None)


def _ask_part(
    model: type[Model], alias: str, objects: dict[str, list[str]], selection: Selection, errors: list[Exception]
) -> None:
    field = site.concrete(model)._meta.pk
    with _savepoint(alias):
        found: QuerySet[Model] = QuerySet(model, using=alias).filter(pk__in=[field.to_python(pk) for pk in objects])
        rows = {field.value_to_string(row): row for row in found}
    for pk, versions in objects.items():
        row = rows.get(pk)
        if row is not None:
            try:
                with _savepoint(alias):
                    asking.ask_row(row, selection)
                    asking.ask_others(row, selection, alias)
            except Exception as error:  # STRICT; no list; or the database, inside a transaction
                logger.error("%s %s could not be asked again after COMMIT", model._meta.label, pk, exc_info=True)
                errors.append(error)
        for was in _versions(versions, row):
            try:
                with _savepoint(alias), dependents.quietly():
                    _ask_version(model, alias, row, was, selection)
            except Exception as error:  # noqa: BLE001 - it asks about what is gone
                logger.debug("%s %s, as it was before: %s", model._meta.label, pk, error)


def _ask_version(model: type[Model], alias: str, row: Model | None, was: dict[str, Any], selection: Selection) -> None:
    """The row with its old values; with those of now where they were long, without where it is gone."""
    fields = {field.attname: field for field in model._meta.concrete_fields}
    values = {
        name: None if value is None else fields[name].to_python(value) for name, value in was.items() if name in fields
    }
    known = (row.__dict__ if row else {}) | values
    names = [name for name in fields if name in known]
    version = model.from_db(alias, names, [known[name] for name in names])
    asking.ask_row(version, selection)
    asking.ask_others(version, selection, alias, values)


def _versions(versions: Iterable[str], row: Model | None) -> Iterator[dict[str, Any]]:
    """Those that are other than the row is now."""
    now = _values(row) if row else ""
    return (json.loads(was) for was in dict.fromkeys(versions) if was not in ("", now))


def _values(row: Model) -> str:
    """JSON that `to_python` of the fields understands."""
    values = {}
    for field in row._meta.concrete_fields:
        if field.attname not in row.__dict__:
            continue
        try:
            text = None if row.__dict__[field.attname] is None else field.value_to_string(row)
        except Exception:  # noqa: BLE001, S112 - an expression, or a text where a date belongs: none of the database's
            continue
        if text is None or len(str(text)) <= LONGEST_VALUE:
            values[field.attname] = text
    return json.dumps(values, default=str)


def _savepoint(alias: str) -> AbstractContextManager[Any]:
    """A question that fails must not break a transaction that is open: that of a TestCase, or of a relay."""
    return transaction.atomic(using=alias) if connections[alias].in_atomic_block else nullcontext()
