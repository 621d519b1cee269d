"""Which models have pages that depend on them?

Answers for a class whether, and by which of its functions, its objects are asked. This module never touches an object
or a signal: see `hooks` and `wiring`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model

from django_everpage.dependents import Function, NotAList
from django_everpage.selection import refuse_one_string

M = TypeVar("M", bound=type[Model])

METHODS = ("dependent_paths", "dependent_tags")
# An ordered set.
_registered: dict[type[Model], None] = {}
# Called when that or the models of the project have changed.
listeners: list[Callable[[], None]] = []


def register(model: M) -> M:
    """Invalidates what `dependent_paths()` and `dependent_tags()` name when an object of `model` changes.

    Also a class decorator. An abstract model stands for all that inherit from it. A saved child (multi-table
    inheritance) counts as its parents being saved, a proxy as what it stands for, and the other way round.
    """
    if not (isinstance(model, type) and issubclass(model, Model)):
        raise TypeError(f"register() takes a model class, not {model!r}")
    if apps.apps_ready and not apps.is_installed("django_everpage"):
        raise ImproperlyConfigured(
            f"{model.__name__} cannot be registered: add 'django_everpage' to INSTALLED_APPS, else no hook is called."
        )
    _registered[model] = None
    changed()
    return model


def unregister(model: type[Model]) -> None:
    """Undoes `register`; KeyError if that was not called."""
    if model not in _registered:
        raise KeyError(f"{model.__name__} is not registered with everpage")
    del _registered[model]
    changed()


def registered() -> tuple[type[Model], ...]:
    """In the order of `register`, abstract models among them."""
    return tuple(_registered)


def is_registered(model: type[Model]) -> bool:
    """An object of `model` is asked when it changes."""
    return bool(voices(model))


def get_paths_from_model(instance: Any) -> Any:
    """What `dependent_paths()` of the object answers; TypeError if that is a string (django-dumper's name)."""
    paths = instance.dependent_paths()
    try:
        refuse_one_string(paths, f"dependent_paths on {type(instance).__name__}")
    except TypeError as error:
        raise NotAList(str(error)) from None
    return paths


def functions_of(model: type[Model]) -> list[Function]:
    return [function for name in METHODS if callable(function := getattr(model, name, None))]


@cache
def voices(model: type[Model]) -> tuple[Function, ...]:
    """What an object of `model` is asked: its own functions, and those of each registered model that it also is."""
    also = [cls for cls in _registered if issubclass(model, cls)]
    if not also:
        return ()
    concrete = [cls for cls in also if not cls._meta.abstract]
    functions = {function: None for cls in (model, *concrete) for function in functions_of(cls)}
    return tuple(functions)


@cache
def others(model: type[Model]) -> tuple[tuple[type[Model], type[Model]], ...]:
    """Registered models that `model` is not but shares a row with, proxies and children; each with the shared one."""
    found = []
    for cls in _registered:
        if cls._meta.abstract or issubclass(model, cls):
            continue
        shared = next((ancestor for ancestor in lineage(cls) if ancestor in lineage(model)), None)
        if shared is not None:
            found.append((cls, shared))
    return tuple(found)


@cache
def lineage(model: type[Model]) -> tuple[type[Model], ...]:
    """The models whose tables hold an object of `model`: its own first, then its parents'."""
    return () if model._meta.abstract else (concrete(model), *concrete(model)._meta.get_parent_list())


def concrete(model: type[Model]) -> type[Model]:
    """What a proxy stands for; any other model itself."""
    return model._meta.concrete_model or model


def matters(model: type[Model]) -> bool:
    return bool(voices(model) or others(model))


def changed() -> None:
    """Forgets what was found out about classes."""
    for cached in (voices, others, lineage):
        cached.cache_clear()
    for listener in listeners:
        listener()
