"""`manage.py everpage_invalidate PATH...`"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_everpage import client
from django_everpage.client import EverpageError
from django_everpage.selection import Selection, checked_path, checked_tag


class Command(BaseCommand):
    help = "Invalidates pages now and waits for the answer."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("paths", nargs="*", metavar="PATH", help="a path, or a URL for one host only")
        parser.add_argument("--prefix", action="append", default=[], help="everything at and below it")
        parser.add_argument("--tag", action="append", default=[], help="all pages that the app gave this tag")
        parser.add_argument("--all", action="store_true", help="everything")
        parser.add_argument("--reason", default="manage.py everpage_invalidate", help="for the proxy's log")
        parser.add_argument("--dry-run", action="store_true", help="only say what would go")

    def handle(self, *, paths: list[str], **options: Any) -> None:
        selection = Selection().because(options["reason"])
        try:
            selection.add(
                map(checked_path, paths), map(checked_path, options["prefix"]), map(checked_tag, options["tag"])
            )
        except ValueError as error:
            raise CommandError(str(error), returncode=64) from error
        if options["all"]:
            selection.take_all()
        if not selection:
            raise CommandError("Name at least one PATH, --prefix, --tag, or --all.", returncode=64)
        try:
            for body in selection.bodies():
                self._tell(client.post({**body, "dry_run": True} if options["dry_run"] else body))
        except EverpageError as error:
            raise CommandError(str(error)) from error

    def _tell(self, answer: dict[str, Any]) -> None:
        stored = answer.get("stored")
        pages = "" if stored is None else f"{stored} stored {'page' if stored == 1 else 'pages'}"
        if answer.get("dry_run"):
            self.stdout.write(f"Would invalidate {pages}.")
        else:
            done = f"Done as number {answer['sequence']}, nodes: {answer['nodes']}"
            self.stdout.write(self.style.SUCCESS(f"{done}: {pages}." if pages else f"{done}."))
        for path in answer.get("unmatched") or ():
            self.stdout.write(f"Nothing was stored of {path}")
