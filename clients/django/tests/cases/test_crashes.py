"""kill -9 of the app and of the proxy, and what a visitor sees after that."""

import os
import subprocess
import sys

from django.core.management import call_command
from django.db import OperationalError, connections, transaction
from django.test import override_settings, skipUnlessDBFeature

from django_everpage import retry
from django_everpage.models import OutboxEntry
from shop.models import Related, Simple
from support.proxy import TOKEN, ProxyTestCase


class Crashes(ProxyTestCase):
    everpage = {"OUTBOX": True}

    def setUp(self):
        retry.queue.reset()
        self.addCleanup(retry.queue.reset)

    def launch(self, *arguments, pipes=subprocess.DEVNULL, **variables):
        """A process of the same project on the same databases."""
        names = {f"DJ_NAME_{alias}": str(connections[alias].settings_dict["NAME"]) for alias in connections}
        environment = {**os.environ, **names, "DJANGO_SETTINGS_MODULE": "settings", "DJ_OUTBOX": "1", **variables}
        environment |= {"DJ_URL": self.proxy.url, "DJ_TOKEN": TOKEN}
        process = subprocess.Popen([sys.executable, "-m", *arguments], env=environment, stdin=pipes, stdout=pipes)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def run_app(self, *arguments):
        return self.launch("support.app", *arguments, DJ_SENDER="support.app.die").wait()

    def test_the_app_dies_right_after_commit(self):
        for mode in (["atomic"], []):
            with self.subTest(mode):
                Simple.objects.all().delete()
                Simple.objects.create(slug="a")
                old = self.visit("/simple/a/")
                self.assertEqual(self.run_app("a", "b", *mode), -9)
                self.assertEqual(self.proxy.get("/simple/a/").text, old)
                self.assertEqual(OutboxEntry.objects.count(), 1)
                call_command("everpage_relay", "--once", stdout=open(os.devnull, "w"))
                self.assertEqual(self.proxy.get("/simple/a/").status, 404)
                self.visit("/simple/b/")

    def test_a_child_of_multiprocessing_sends_what_waits_before_it_leaves(self):
        Simple.objects.create()
        before = self.proxy.sequence()
        self.assertEqual(self.launch("support.child").wait(), 0)
        self.assertEqual(self.proxy.sequence(), before + 1)

    @skipUnlessDBFeature("has_select_for_update")
    def test_a_relay_asks_again_where_the_app_had_no_time_to(self):
        Simple.objects.create(slug="a")
        app = self.launch("support.app", "a", "b", "held", pipes=subprocess.PIPE, DJ_SENDER="support.app.die")
        self.assertEqual(app.stdout.readline(), b"saved\n")
        Related.objects.create(slug="r").related.add(Simple.objects.get())
        old = self.visit("/related/r/")
        app.communicate(b"\n")
        self.assertEqual(app.returncode, -9)
        body = OutboxEntry.objects.get().body
        self.assertEqual(body["paths"], ["/simple/a/", "/simple/b/"])
        self.assertEqual(self.proxy.get("/related/r/").text, old)
        call_command("everpage_relay", "--once", stdout=open(os.devnull, "w"))
        self.assert_new("/related/r/", old)

    def test_the_proxy_dies_before_the_post(self):
        simple = Simple.objects.create(text="old")
        old = self.store("/simple/slug/")
        self.proxy.kill()
        simple.text = "new"
        with self.assertLogs("everpage", "ERROR"):
            simple.save()
        self.proxy.start()
        self.assertEqual(self.proxy.get("/simple/slug/").text, old)
        call_command("everpage_relay", "--once", stdout=open(os.devnull, "w"))
        self.assert_new("/simple/slug/", old)

    def test_without_an_outbox_the_process_repeats_it_when_the_proxy_is_back(self):
        with override_settings(EVERPAGE={"URL": self.proxy.url, "TOKEN": TOKEN}):
            simple = Simple.objects.create(text="old")
            old = self.visit("/simple/slug/")
            self.proxy.kill()
            simple.text = "new"
            with self.assertLogs("everpage", "ERROR"):
                simple.save()
            self.proxy.start()
            self.wait_for(lambda: not len(retry.queue), "the invalidation arrived")
            self.assert_new("/simple/slug/", old)

    def patiently(self, change):
        """SQLite undoes a transaction that has read when another one has written before it does."""
        while True:
            try:
                with transaction.atomic():
                    return change()
            except OperationalError as error:
                self.assertIn("locked", str(error))

    def test_two_relays_run_until_they_are_stopped(self):
        relays = [self.launch("django", "everpage_relay", "--interval", "0.05", "--min-age", "0") for _ in range(2)]
        for number in range(5):
            self.patiently(lambda: Simple.objects.all().delete())
            self.patiently(lambda number=number: Simple.objects.create(slug="a", text=str(number)))
            old = self.visit("/simple/a/")
            self.assertEqual(self.run_app("a", "b"), -9)
            self.wait_for(lambda: not OutboxEntry.objects.exists(), "the outbox is empty")
            self.assertEqual(self.proxy.get("/simple/a/").status, 404, old)
        for relay in relays:
            relay.terminate()
            self.assertEqual(relay.wait(), 0)
