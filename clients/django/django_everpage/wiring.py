"""Which signals are listened to?

Only those of models that can matter: a listener for all would slow down every delete of the project, for Django then
loads each object before it deletes it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from django.apps import apps
from django.core.signals import setting_changed
from django.db import router, transaction
from django.db.models import Model, signals

from django_everpage import conf, hooks, links, site

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
    make_saves_transactions()


def _wanted() -> Iterator[tuple[str, type[Model]]]:
    if not site.registered():
        return
    models = apps.get_models(include_auto_created=True)
    for model in models:
        if site.matters(model):
            yield from _of_objects(model)
        for field in model._meta.local_many_to_many:
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


def make_saves_transactions() -> None:
    """With OUTBOX, a save in autocommit mode becomes a transaction: the row of the outbox commits with what was saved.

    Django sends `post_save` after the COMMIT of such a save; a crash in between would lose the invalidation.
    """
    wanted = {model for name, model in _wired if name == "post_save"} if conf.wants_outbox() else set()
    for model in [model for model in _wrapped if model not in wanted]:
        del model.save_base
        _wrapped.remove(model)
    for model in wanted - _wrapped:
        # One that has its own save_base, or a parent that is wrapped, keeps it: the wrapper calls on.
        if "save_base" not in model.__dict__:
            model.save_base = _in_transaction(model)  # type: ignore[method-assign]
            _wrapped.add(model)


def _in_transaction(model: type[Model]) -> Any:
    @functools.wraps(model.save_base)
    def save_base(self: Model, *args: Any, **kwargs: Any) -> None:
        call = super(model, self).save_base  # type: ignore[misc]
        using = inspect.signature(call).bind(*args, **kwargs).arguments.get("using")
        with transaction.atomic(using=using or router.db_for_write(type(self), instance=self), savepoint=False):
            call(*args, **kwargs)

    return save_base


def _on_setting(*, setting: str, **_: Any) -> None:
    if setting == "EVERPAGE" and apps.models_ready:
        make_saves_transactions()


setting_changed.connect(_on_setting, dispatch_uid="everpage.wiring")
