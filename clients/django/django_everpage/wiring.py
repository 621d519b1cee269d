"""Which signals are listened to?

Only those of models that can matter: a listener for all would slow down every delete of the project, for Django then
loads each object before it deletes it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import Any

from django.apps import apps
from django.db import connections, router, transaction
from django.db.models import Model, signals

from django_everpage import conf, hooks, links, related, site

OBJECT_SIGNALS = ("pre_save", "post_save", "pre_delete")

_wired: dict[tuple[str, type[Model]], None] = {}
_wrapped: set[type[Model]] = set()


def wire() -> None:
    """Connects the signals that are needed now and disconnects the rest."""
    links.forget()
    wanted = dict.fromkeys(_wanted())
    for name, model in [wire for wire in _wired if wire not in wanted]:
        getattr(signals, name).disconnect(sender=model, dispatch_uid="everpage")
    for name, model in [wire for wire in wanted if wire not in _wired]:
        getattr(signals, name).connect(hooks.RECEIVERS[name], sender=model, dispatch_uid="everpage")
    _wired.clear()
    _wired.update(wanted)
    _wrap_saves()
    related.wire()


def _wanted() -> Iterator[tuple[str, type[Model]]]:
    if not site.registered():
        return
    models = apps.get_models(include_auto_created=True)
    for model in models:
        if site.matters(model):
            yield from _of_objects(model)
        for field in filter(links.is_resolved, model._meta.local_many_to_many):
            through: type[Model] = field.remote_field.through  # type: ignore[assignment]
            far = field.remote_field.model
            if site.matters(model) or site.matters(far):
                yield "m2m_changed", through
                # A deleted end takes its links along; and a fixture's links are known by the object they belong to.
                for end in _family((model, far, through), models):
                    yield from _of_objects(end)


def _of_objects(model: type[Model]) -> Iterator[tuple[str, type[Model]]]:
    for name in OBJECT_SIGNALS:
        yield name, model


def _family(ends: Iterable[type[Model]], models: Iterable[type[Model]]) -> Iterator[type[Model]]:
    """The ends, and what inherits from them or stands for them; tables of Django's own making have no signals."""
    for end in ends:
        if not end._meta.auto_created:
            yield from (model for model in models if site.concrete(end) in site.lineage(model))


def _wrap_saves() -> None:
    wanted = {model for name, model in _wired if name == "post_save"}
    for model in [model for model in _wrapped if model not in wanted]:
        del model.save_base
        _wrapped.remove(model)
    for model in wanted - _wrapped:
        # One that has its own save_base, or a parent that is wrapped, keeps it: the wrapper calls on.
        if "save_base" not in model.__dict__:
            model.save_base = _with_care(model)  # type: ignore[method-assign]
            _wrapped.add(model)


def _with_care(model: type[Model]) -> Any:
    """A save whose invalidation is not lost.

    With OUTBOX, one in autocommit mode becomes a transaction: the row of the outbox commits with what was saved. Django
    sends `post_save` after the COMMIT of such a save; a crash in between would lose it. Inside a transaction nothing is
    opened: an inner block that fails would take the outer one along, or cost a savepoint.

    And a receiver that raises keeps Django from calling those after it, although the row may be written.
    """

    @functools.wraps(model.save_base)
    def save_base(self: Model, *args: Any, **kwargs: Any) -> None:
        call = super(model, self).save_base  # type: ignore[misc]
        using = inspect.signature(call).bind(*args, **kwargs).arguments.get("using")
        using = using or router.db_for_write(type(self), instance=self)
        # Wrong settings are for the signals to tell.
        opens = conf.wants_outbox() and not connections[using].in_atomic_block
        try:
            with transaction.atomic(using=using) if opens else nullcontext():
                call(*args, **kwargs)
        except Exception:
            hooks.after_failed_save(self, using)
            raise

    return save_base
