"""Which pages show this object? What its `dependent_paths()` and `dependent_tags()` answer, checked.

A mistake of one object never hides what another says, nor what the same object has said before it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db import DatabaseError, connections
from django.db.models import Model

from django_everpage import conf
from django_everpage.selection import Selection, checked_path, checked_tag, refuse_one_string

logger = logging.getLogger("everpage")

Function = Callable[[Any], Any]

_strictly: ContextVar[bool] = ContextVar("everpage_strictly", default=False)


class DependentsError(Exception):
    """`dependent_paths()` or `dependent_tags()` of an object failed, or gave what is no path; raised if STRICT."""


class NotAList(TypeError):
    """A plain string, or nothing, where a list belongs: a mistake in the code, raised always (as in django-dumper)."""


def ask(instance: Model, functions: Iterable[Function], into: Selection) -> None:
    """Adds what each of the functions says of `instance`.

    Raises NotAList; DatabaseError inside a transaction, which it has broken; what else goes wrong only if STRICT.
    """
    for function in functions:
        is_tags = function.__name__ == "dependent_tags"
        check, add = (checked_tag, _add_tag) if is_tags else (checked_path, _add_path)
        for value in _guarded(instance, function):
            try:
                add(into, check(value))
            except (TypeError, ValueError) as error:
                _fail(instance, function, error)
            if into.all:
                return


def _add_path(into: Selection, path: str) -> None:
    into.add(paths=[path])


def _add_tag(into: Selection, tag: str) -> None:
    into.add(tags=[tag])


def _guarded(instance: Model, function: Function) -> Iterator[Any]:
    """The values one by one; what the generator raises ends them."""
    try:
        yield from _flat(instance, function, set())
    except NotAList:
        raise
    except Exception as error:
        if isinstance(error, DatabaseError) and any(c.in_atomic_block for c in connections.all(initialized_only=True)):
            # The transaction is broken. Going on would end in a COMMIT that silently rolls back.
            raise
        _fail(instance, function, error)


def _flat(instance: Model, function: Function, seen: set[int]) -> Iterator[Any]:
    """The values; an object among them stands for what it says itself."""
    seen.add(id(instance))
    values = function(instance)
    try:
        refuse_one_string(values, f"{function.__name__} on {type(instance).__name__}")
    except TypeError as error:
        raise NotAList(str(error)) from None
    for value in values:
        own = getattr(type(value), function.__name__, None) if isinstance(value, Model) else None
        if own is None:
            yield value
        elif id(value) not in seen:
            yield from _flat(value, own, seen)


@contextmanager
def strictly() -> Iterator[None]:
    """What is only logged otherwise is raised inside, whatever STRICT says."""
    token = _strictly.set(True)
    try:
        yield
    finally:
        _strictly.reset(token)


def _fail(instance: Model, function: Function, error: Exception) -> None:
    label = f"{instance._meta.label} with pk {instance.pk!r}"
    message = f"{function.__name__}() of {label}: {type(error).__name__}: {error}. Pages that show it may stay old."
    if conf.get().strict or _strictly.get():
        raise DependentsError(message) from error
    logger.error(message, exc_info=error)
