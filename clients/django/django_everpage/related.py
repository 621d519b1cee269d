"""`maker.ice_creams.add(...)`, `remove`, `clear` and `set`: these update rows without signals. What is done about it?

The related managers of foreign keys and generic relations to models that matter get these methods from here: the rows
count as saved. It rests on the descriptor's `related_manager_cls`, which holds from Django 4.2 on. Where a project has
a descriptor of its own without it, nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any

from django.apps import apps
from django.db import connections, router, transaction
from django.db.models import ManyToOneRel, Model
from django.db.models.fields.related_descriptors import ManyToManyDescriptor, ReverseManyToOneDescriptor

from django_everpage import asking, collector, conf, hooks, links, site

_hooked: dict[int, tuple[Any, Any]] = {}


def wire() -> None:
    """Puts the hooks where they matter, and takes them away elsewhere."""
    wanted = {id(descriptor): descriptor for descriptor in _descriptors()} if site.registered() else {}
    for key, (descriptor, original) in list(_hooked.items()):
        if key not in wanted:
            descriptor.__dict__["related_manager_cls"] = original
            del _hooked[key]
    for key, descriptor in wanted.items():
        if key not in _hooked:
            original = descriptor.related_manager_cls
            # Removing from a generic relation deletes, with signals.
            names = ("add",) if _is_generic(descriptor.rel) else ("add", "remove", "clear")
            descriptor.__dict__["related_manager_cls"] = _hooked_class(original, names)
            _hooked[key] = (descriptor, original)


def _descriptors() -> Iterator[Any]:
    for model in apps.get_models():
        for descriptor in list(vars(model).values()):
            far = _far(descriptor) if hasattr(type(descriptor), "related_manager_cls") else None
            if isinstance(far, type) and (site.matters(far) or links.fields_through(far)):
                yield descriptor


def _far(descriptor: Any) -> Any:
    """The model whose objects the manager manages; None if it is that of a many-to-many relation, which has signals."""
    if isinstance(descriptor, ManyToManyDescriptor) or not isinstance(descriptor, ReverseManyToOneDescriptor):
        return None
    return descriptor.rel.model if _is_generic(descriptor.rel) else descriptor.rel.related_model


def _is_generic(rel: Any) -> bool:
    """Of a GenericRelation, whose class cannot be imported where content types are not installed."""
    return not isinstance(rel, ManyToOneRel)


def _hooked_class(original: Any, names: tuple[str, ...]) -> Any:
    """That of a related manager whose changes are seen; `maker.ice_creams(manager="...")` gives such a one, too."""
    methods: dict[str, Any] = {"__module__": original.__module__, "__qualname__": original.__qualname__}

    def with_manager(self: Any, *, manager: str) -> Any:
        return _hooked_class(type(original.__call__(self, manager=manager)), names)(self.instance)

    methods["__call__"] = with_manager
    for name in names:
        if hasattr(original, name):
            methods[name] = _seen(getattr(original, name), _all if name == "clear" else _given)
    return type(original.__name__, (original,), methods)


def _seen(method: Callable[..., Any], pks: Callable[..., list[Any]]) -> Callable[..., Any]:
    def change(self: Any, *objects: Any, **options: Any) -> Any:
        config = conf.get()
        # Without bulk each object is saved or deleted, with signals.
        if not (config.enabled and options.get("bulk", True)) or collector.is_silent():
            return method(self, *objects, **options)
        using = router.db_for_write(self.model, instance=self.instance)
        is_open = connections[using].in_atomic_block
        with (
            nullcontext() if is_open else transaction.atomic(using=using),
            hooks.moving(self.model, pks(self, objects, using), using),
        ):
            return method(self, *objects, **options)

    change.__name__, change.__doc__ = method.__name__, method.__doc__
    change.__dict__["alters_data"] = True  # templates must not call it
    return change


def _given(_self: Any, objects: Iterable[Any], _using: str) -> list[Any]:
    return [one.pk for one in objects if isinstance(one, Model) and one.pk is not None]


def _all(self: Any, _objects: Iterable[Any], using: str) -> list[Any]:
    """Those that a clear() finds; the lock keeps others from being added between this look and the UPDATE."""
    owner = self.instance
    list(asking.stored(type(owner), site.concrete(type(owner)), owner, using, lock="delete"))
    return list(self.using(using).values_list("pk", flat=True))
