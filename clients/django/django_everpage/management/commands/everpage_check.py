"""`manage.py everpage_check`: would an invalidation arrive, and would it name pages that exist?"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, router
from django.db.models import Model
from django.urls import Resolver404, resolve

from django_everpage import client, conf, dependents, hooks, outbox, site
from django_everpage.client import EverpageError
from django_everpage.selection import Selection

PATHS_SHOWN = 20


class Command(BaseCommand):
    help = "Asks the proxy, with the token, and shows what a sample object of each registered model names."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--strict", action="store_true", help="warnings count as failures")

    def handle(self, **options: Any) -> None:
        self.failed = self.warned = 0
        self._check_proxy()
        self._check_outbox()
        models = [model for model in apps.get_models() if site.is_registered(model)]
        if not models:
            self._warn("No model is registered: nothing will ever be invalidated.")
        for model in models:
            self._check_model(model)
        if self.failed or (options["strict"] and self.warned):
            raise CommandError(f"{self.failed} failures, {self.warned} warnings.")
        self.stdout.write(self.style.SUCCESS(f"All is well, {self.warned} warnings."))

    def _check_proxy(self) -> None:
        """Each URL on its own: the second must not stand in for the first."""
        for url in conf.get().urls:
            try:
                status = client.get("/status", url=url)
            except EverpageError as error:
                hint = " Is the token that of `admin.token`?" if error.status in (401, 403) else ""
                self._fail(f"{error}.{hint}")
            else:
                self.stdout.write(f"{url}: everpage {status['version']} answers, the token is right.")

    def _check_outbox(self) -> None:
        for alias in outbox.aliases() if conf.get().outbox else ():
            try:
                self.stdout.write(f"Outbox on {alias}: {outbox.waiting(alias)} waiting.")
            except DatabaseError as error:
                self._fail(f"Outbox on {alias}: {error}. Has `manage.py migrate --database {alias}` been run?")

    def _check_model(self, model: type[Model]) -> None:
        label = model._meta.label
        try:
            with dependents.strictly():
                alias = router.db_for_read(model)
                sample = model._default_manager.using(alias).first()
                if sample is None:
                    self._warn(f"{label}: has no object to ask.")
                    return
                selection = hooks.selection_of(sample, alias)
        except (dependents.DependentsError, TypeError, DatabaseError) as error:
            self._fail(f"{label}: {error}")
            return
        self.stdout.write(f"{label} {sample.pk}: {len(selection)} names.")
        for line in _lines(selection):
            self.stdout.write(f"  {line}")
        for path in selection.paths:
            if _is_unknown(path):
                self._warn(f"  {path} is no URL of this project.")
        if not selection:
            self._warn(f"{label} {sample.pk}: names nothing.")

    def _fail(self, message: str) -> None:
        self.failed += 1
        self.stderr.write(self.style.ERROR(message))

    def _warn(self, message: str) -> None:
        self.warned += 1
        self.stdout.write(self.style.WARNING(message))


def _lines(selection: Selection) -> Iterator[str]:
    """The paths with what the proxy has of them; without it if it does not answer."""
    shown = list(selection.paths)[:PATHS_SHOWN]
    try:
        answer = client.post({"paths": shown, "dry_run": True})
        missing = set(answer.get("unmatched") or ())
        yield from (f"{path}: {'not stored now' if path in missing else 'stored'}" for path in shown)
    except EverpageError:
        yield from shown
    if len(selection.paths) > PATHS_SHOWN:
        yield f"and {len(selection.paths) - PATHS_SHOWN} more"
    yield from (f"tag {tag}" for tag in selection.tags)


def _is_unknown(path: str) -> bool:
    try:
        resolve(unquote(urlsplit(path).path))
    except Resolver404:
        return True
    return False
