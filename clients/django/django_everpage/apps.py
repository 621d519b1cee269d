"""The Django app: wires the hooks once all models are known, and adds the system checks."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks
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
        # Models that are made later, in a test or by a project's own factory.
        class_prepared.connect(site.changed, dispatch_uid="everpage")
        wiring.wire()
