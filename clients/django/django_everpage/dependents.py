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
_quietly: ContextVar[bool] = ContextVar("everpage_quietly", default=False)


class DependentsError(Exception):
    """`dependent_paths()` or `dependent_tags()` of an object failed, or gave what is no path; raised if STRICT."""


class NotAList(TypeError):
    """A plain string where a list belongs: a mistake in the code, raised always (as in django-dumper)."""


def ask(instance: Model, functions: Iterable[Function], into: Selection) -> None:
    """Adds what each of the functions says of `instance`.

    Raises NotAList, when the other functions have been asked; DatabaseError inside a transaction, which it has broken;
    what else goes wrong only if STRICT.
    """
    not_a_list = None
    for function in functions:
        try:
            _ask_one(instance, function, into)
        except NotAList as error:
            not_a_list = error
        if into.all:
            return
    if not_a_list:
        raise not_a_list


def _ask_one(instance: Model, function: Function, into: Selection) -> None:
    is_tags = function.__name__ == "dependent_tags"
    for value in _guarded(instance, function):
        try:
            if is_tags:
                into.add(tags=[checked_tag(value)])
            else:
                into.add(paths=[checked_path(value)])
        except Exception as error:  # noqa: BLE001 - what reverse_lazy() promised may fail with anything
            _fail(instance, function, error)
        if into.all:
            return


def _guarded(instance: Model, function: Function) -> Iterator[Any]:
    """The values one by one; what the generator raises ends them."""
    try:
        yield from _flat(instance, function, set(), ())
    except NotAList:
        raise
    except Exception as error:  # noqa: BLE001 - the project's own code
        _fail(instance, function, error)


def _flat(instance: Model, function: Function, rows: set[Any], chain: tuple[Model, ...]) -> Iterator[Any]:
    """The values; an object among them stands for what it says itself, each row once.

    Objects are never told apart by their address in memory, which another one gets when they are gone: a row is known
    by its key, and an object without one by being among those that are being asked just now.
    """
    chain = (*chain, instance)
    if (key := _key(instance)) is not None:
        rows.add(key)
    values = function(instance)
    what = f"{function.__name__} on {type(instance).__name__}"
    if values is None:
        raise ValueError(f"{what} gave None: return [] when no page shows the object")
    try:
        refuse_one_string(values, what)
    except TypeError as error:
        raise NotAList(str(error)) from None
    for value in values:
        own = getattr(type(value), function.__name__, None) if isinstance(value, Model) else None
        if own is None:
            yield value
        elif _key(value) not in rows and not any(value is asked for asked in chain):
            yield from _flat(value, own, rows, chain)


def _key(instance: Model) -> tuple[type[Model], Any] | None:
    """None: it is in no table yet."""
    pk = instance.pk
    is_whole = None not in pk if isinstance(pk, tuple) else pk is not None
    return (type(instance), pk) if is_whole else None


@contextmanager
def strictly() -> Iterator[None]:
    """What is only logged otherwise is raised inside, whatever STRICT says."""
    token = _strictly.set(True)
    try:
        yield
    finally:
        _strictly.reset(token)


@contextmanager
def quietly() -> Iterator[None]:
    """What is logged or raised otherwise is left out inside: for objects that are gone."""
    token = _quietly.set(True)
    try:
        yield
    finally:
        _quietly.reset(token)


def _fail(instance: Model, function: Function, error: Exception) -> None:
    if isinstance(error, DatabaseError) and any(c.in_atomic_block for c in connections.all(initialized_only=True)):
        # The transaction is broken. Going on would end in a COMMIT that silently rolls back.
        raise error
    label = f"{instance._meta.label} with pk {instance.pk!r}"
    message = f"{function.__name__}() of {label}: {type(error).__name__}: {error}. Pages that show it may stay old."
    if _quietly.get():
        logger.debug(message)
        return
    if conf.get().strict or _strictly.get():
        raise DependentsError(message) from error
    logger.error(message, exc_info=error)
