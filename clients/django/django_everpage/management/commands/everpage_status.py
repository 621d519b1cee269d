"""`manage.py everpage_status`"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from django_everpage import client, conf, outbox
from django_everpage.client import EverpageError


class Command(BaseCommand):
    help = "Shows what the proxy says of itself, and what the outbox still holds."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, **options: Any) -> None:
        waiting = self._waiting()
        try:
            status = client.get("/status")
        except EverpageError as error:
            if waiting:
                self.stderr.write(f"Waiting in the outbox: {waiting}")
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps({**status, "outbox": waiting}))
            return
        journal, store, ratio = status["journal"], status["store"], status.get("hit_ratio")
        self.stdout.write(
            f"everpage {status['version']}, up for {status['uptime_seconds']} s, nodes: {journal['nodes']}"
        )
        self.stdout.write(f"Newest invalidation: {journal['sequence']}")
        self.stdout.write(f"Stored: {store['objects']} pages, {store['bytes']} bytes ({store['kind']})")
        self.stdout.write("Hits: no request yet" if ratio is None else f"Hits: {ratio:.1%}")
        if status.get("degraded"):
            self.stdout.write(self.style.WARNING(f"Degraded: {status['degraded']}"))
        for alias, rows in waiting.items():
            self.stdout.write(f"Waiting in the outbox on {alias}: {rows}")

    def _waiting(self) -> dict[str, int]:
        if not conf.get().outbox:
            return {}
        try:
            return {alias: outbox.waiting(alias) for alias in outbox.aliases()}
        except DatabaseError as error:
            raise CommandError(f"The outbox cannot be read: {error}. Has `manage.py migrate` been run?") from error
