"""Which databases does the relay look at, and what if one of them or a row in it is not as it should be?"""

import io
import uuid

from django.core.management import CommandError, call_command
from django.db import connections
from django.test import TransactionTestCase, override_settings

from django_everpage import outbox, retry
from django_everpage.management.commands.everpage_relay import LONGEST_PAUSE_SECONDS, Rounds
from django_everpage.models import OutboxEntry
from shop.models import Simple
from support import listener

READ_ONLY = {
    "sqlite": ("PRAGMA query_only = ON", "PRAGMA query_only = OFF"),
    "postgresql": (
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    ),
}


class ToTheSecond:
    """A project's router."""

    def db_for_write(self, model, **_hints):
        return "second"

    db_for_read = db_for_write


class Relay(TransactionTestCase):
    databases = {"default", "second"}

    def setUp(self):
        retry.queue.reset()
        self.proxy = listener.Listener()
        self.addCleanup(self.proxy.stop)
        self.addCleanup(outbox._unreadable.clear)
        settings = override_settings(EVERPAGE={"URL": self.proxy.url, "OUTBOX": True})
        settings.enable()
        self.addCleanup(settings.disable)

    def write_row(self, path, alias="default"):
        return OutboxEntry.objects.using(alias).create(body={"paths": [path]})

    def relay(self):
        call_command("everpage_relay", "--once", stdout=io.StringIO())

    def make_read_only(self, alias):
        """As on a replica: it has the same rows, and none can be deleted."""
        on, off = READ_ONLY[connections[alias].vendor]
        with connections[alias].cursor() as cursor:
            cursor.execute(on)

        def undo():
            with connections[alias].cursor() as cursor:
                cursor.execute(off)

        self.addCleanup(undo)

    def test_a_read_replica_is_left_out(self):
        self.write_row("/a/", "second")
        self.write_row("/a/")
        self.make_read_only("second")
        self.relay()
        self.assertEqual(self.proxy.paths, ["/a/"])
        self.assertFalse(OutboxEntry.objects.exists())

    def test_a_database_that_is_written_to_is_never_taken_for_a_replica(self):
        with override_settings(DATABASE_ROUTERS=[ToTheSecond()]):
            self.write_row("/a/", "second")
            self.make_read_only("second")
            self.assertFalse(outbox.is_read_only("second"))
            if connections["second"].vendor == "postgresql":  # SQLite sends it, and can only log that the row stays
                with self.assertRaisesMessage(CommandError, "The outbox on second could not be sent"):
                    self.relay()

    def test_a_row_that_cannot_be_read_is_logged_once_and_keeps_no_other_waiting(self):
        wrong = [OutboxEntry.objects.create(body=body) for body in ("text", ["/a/"], {"paths": [["/a/"]]}, 7)]
        self.write_row("/a/")
        with self.assertLogs("everpage", "ERROR") as logs:
            self.relay()
        self.assertEqual(self.proxy.paths, ["/a/"])
        self.assertEqual({entry.pk for entry in OutboxEntry.objects.all()}, {entry.pk for entry in wrong})
        self.assertEqual(len(logs.output), len(wrong))
        self.assertIn(str(wrong[0].pk), logs.output[0])
        self.write_row("/b/")
        with self.assertNoLogs("everpage", "ERROR"):
            self.relay()
        self.assertEqual(self.proxy.paths, ["/a/", "/b/"])

    def test_a_row_that_cannot_be_read_does_not_hide_what_the_next_save_sends(self):
        outbox.look_soon()
        OutboxEntry.objects.create(id=uuid.uuid4(), body=[])
        with self.assertLogs("everpage", "ERROR"):
            Simple.objects.create(slug="a")
        self.assertEqual(self.proxy.paths, ["/simple/a/"])


class Pauses(TransactionTestCase):
    def test_an_alias_that_fails_waits_longer_and_longer_and_no_other_waits_for_it(self):
        rounds = Rounds(1.0, ["broken", "well"], now=0.0)
        self.assertEqual(rounds.pause(0.0), 1.0)
        self.assertEqual(rounds.due(0.5), [])
        now, looks = 0.0, {"broken": 0, "well": 0}
        while now < 300:
            now += rounds.pause(now)
            for alias in rounds.due(now):
                rounds.looked(alias, now, failed=alias == "broken")
                looks[alias] += 1
        self.assertEqual(looks["well"], 300)
        self.assertEqual(rounds.pauses, {"broken": LONGEST_PAUSE_SECONDS, "well": 1.0})
        self.assertLess(looks["broken"], 20)
        self.assertEqual(rounds.looked("broken", now, failed=False), 1.0)
