"""The Django app: wires the hooks once all models are known, and adds the system checks."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig, apps
from django.core import checks
from django.db.models import Model
from django.db.models.signals import class_prepared


class EverpageConfig(AppConfig):
    name = "django_everpage"
    label = "everpage"
    verbose_name = "everpage"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django_everpage import checks as everpage_checks
        from django_everpage import site, wiring

        checks.register(everpage_checks.check_settings)
        checks.register(everpage_checks.check_models)
        site.listeners.append(wiring.wire)
        class_prepared.connect(_when_a_model_is_made_later, dispatch_uid="everpage")
        wiring.wire()


def _when_a_model_is_made_later(sender: type[Model], **_: Any) -> None:
    """In a test, or by a project's own factory. Not one of a migration, which is of another registry."""
    if sender._meta.apps is not apps or sender.__module__ == "__fake__":
        return
    # The signal comes before the registry knows the model.
    apps.lazy_model_operation(_made, (sender._meta.app_label, sender._meta.model_name))


def _made(_model: type[Model]) -> None:
    from django_everpage import site

    # The registry forgets its list a moment later only.
    apps.clear_cache()
    site.changed()
