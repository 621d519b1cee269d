"""`manage.py everpage_relay`: sends what the outbox holds, again and again; safe to run several times at once."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections

from django_everpage import conf, delivery, outbox
from django_everpage.client import EverpageError

LONGEST_PAUSE_SECONDS = 30.0


class Command(BaseCommand):
    help = "Sends what the outbox holds until it is stopped (SIGTERM, Ctrl-C), or --once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--once", action="store_true", help="send all that is there now, and end; exit 1 if that fails"
        )
        parser.add_argument("--interval", type=float, default=1.0, help="seconds between two looks (default: 1)")
        parser.add_argument(
            "--min-age",
            type=float,
            help="leave younger rows, in seconds, to the process that wrote them (default: TIMEOUT; with --once: 0)",
        )

    def handle(self, **options: Any) -> None:
        if not conf.get().outbox and not options["once"]:
            raise CommandError("EVERPAGE['OUTBOX'] is not on: nothing will ever be there.", returncode=64)
        min_age = options["min_age"]
        if options["once"]:
            failed = self._round(min_age or 0.0)
            if failed:
                raise CommandError("; ".join(failed))
            return
        self._loop(options["interval"], conf.get().timeout_seconds if min_age is None else min_age)

    def _loop(self, interval: float, min_age: float) -> None:
        stopped = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopped.set())
        pause = interval
        while not stopped.wait(pause):
            failed = self._round(min_age)
            pause = min(2 * max(pause, 0.1), LONGEST_PAUSE_SECONDS) if failed else interval
            for message in failed:
                self.stderr.write(f"{message}. Next try in {pause:.1f} s")

    def _round(self, min_age: float) -> list[str]:
        """Everything that is there; the failures, one line for each alias."""
        failed = []
        for alias in outbox.aliases():
            try:
                while sent := outbox.relay(alias, delivery.send_selection, min_age_seconds=min_age):
                    self.stdout.write(f"Sent {sent} {'row' if sent == 1 else 'rows'} of the outbox on {alias}")
                    if sent < outbox.ROWS_OF_A_ROUND:
                        break
            except (EverpageError, DatabaseError) as error:
                failed.append(f"The outbox on {alias} could not be sent: {error}")
            finally:
                connections[alias].close_if_unusable_or_obsolete()
        return failed
