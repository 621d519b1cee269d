"""`manage.py everpage_relay`: sends what the outbox holds, again and again; safe to run several times at once."""

from __future__ import annotations

import signal
import threading
import time
from argparse import ArgumentParser
from collections.abc import Iterable
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
            failed = [message for alias in outbox.aliases() if (message := self._send(alias, min_age or 0.0))]
            if failed:
                raise CommandError("; ".join(failed))
            return
        self._loop(options["interval"], conf.get().timeout_seconds if min_age is None else min_age)

    def _loop(self, interval: float, min_age: float) -> None:
        stopped = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopped.set())
        rounds = Rounds(interval, outbox.aliases(), time.monotonic())
        while not stopped.wait(rounds.pause(time.monotonic())):
            for alias in rounds.due(time.monotonic()):
                message = self._send(alias, min_age)
                pause = rounds.looked(alias, time.monotonic(), failed=message is not None)
                if message is not None:
                    self.stderr.write(f"{message}. Next try in {pause:.1f} s")

    def _send(self, alias: str, min_age: float) -> str | None:
        """Everything that is there; what failed, if something did."""
        try:
            if outbox.is_read_only(alias):
                return None
            while sent := outbox.relay(alias, delivery.send_selection, min_age_seconds=min_age):
                self.stdout.write(f"Sent {sent} {'row' if sent == 1 else 'rows'} of the outbox on {alias}")
                if sent < outbox.ROWS_OF_A_ROUND:
                    break
        except (EverpageError, DatabaseError) as error:
            return f"The outbox on {alias} could not be sent: {error}"
        finally:
            connections[alias].close_if_unusable_or_obsolete()
        return None


class Rounds:
    """When is each alias looked at? One that fails waits longer each time, and no other waits for it."""

    def __init__(self, interval: float, aliases: Iterable[str], now: float) -> None:
        self.interval = interval
        self.pauses = dict.fromkeys(aliases, interval)
        self.next = dict.fromkeys(self.pauses, now + interval)

    def pause(self, now: float) -> float:
        """Seconds until the next one is due."""
        return max(0.0, min(self.next.values(), default=now + self.interval) - now)

    def due(self, now: float) -> list[str]:
        return [alias for alias, at in self.next.items() if at <= now]

    def looked(self, alias: str, now: float, *, failed: bool) -> float:
        """Seconds until it is looked at again."""
        longer = min(2 * max(self.pauses[alias], 0.1), LONGEST_PAUSE_SECONDS)
        self.pauses[alias] = longer if failed else self.interval
        self.next[alias] = now + self.pauses[alias]
        return self.pauses[alias]
