"""What the proxy rejects is named in the log, and what was named beside it goes all the same."""

import uuid

from django.test import override_settings

import django_everpage
from django_everpage import client, retry
from django_everpage.test import assert_invalidates
from shop.models import Odd, Simple
from support.proxy import ProxyTestCase

TOO_LONG = "x" * 5000  # for a tag


class Rejected(ProxyTestCase):
    def setUp(self):
        retry.queue.reset()

    def test_a_percent_sign_that_is_no_escape_is_named_with_its_object_and_does_not_hide_the_others(self):
        Odd.answer = staticmethod(lambda _: ["/a/", "/ice/100%/", "/b%zz/", "/ice/100%25/?50%", "/c/"])
        self.addCleanup(setattr, Odd, "answer", staticmethod(lambda _: []))
        expected = ["/a/", "/ice/100%25/?50%", "/c/"]
        with self.assertLogs("everpage", "ERROR") as logs, assert_invalidates(expected):
            odd = Odd.objects.create()
        # Each of the two, in the transaction and when it is asked again.
        self.assertEqual(len({line.splitlines()[0] for line in logs.output}), 2)
        self.assertIn(f"shop.Odd with pk {odd.pk}: ValueError: '/ice/100%/' has a % without two", logs.output[0])
        # The proxy is of the same opinion.
        for path in ("/ice/100%/", "/b%zz/"):
            with self.assertRaises(client.Rejected):
                client.post({"paths": [path]})
        client.post({"paths": expected})

    def test_a_page_whose_slug_has_a_percent_sign_goes_by_the_address_that_reverse_makes(self):
        for text in ("old", "new"):
            Simple.objects.update_or_create(slug="100%", defaults={"text": text})
            if text == "old":
                old = self.visit("/simple/100%25/")
                Odd.answer = staticmethod(lambda _: ["/simple/100%25/"])
                self.addCleanup(setattr, Odd, "answer", staticmethod(lambda _: []))
        Odd.objects.create()
        self.assert_new("/simple/100%25/", old)

    def test_send_is_for_a_sender_of_ones_own(self):
        Simple.objects.create()
        for id_ in ({}, {"id": str(uuid.uuid4())}, {"id": "mine"}):
            self.visit("/simple/slug/")
            body = {"paths": ["/simple/slug/", "/other/"], "tags": [TOO_LONG, "right"], "reason": "all", **id_}
            before = self.proxy.sequence()
            with self.assertLogs("everpage", "ERROR") as logs, override_settings(EVERPAGE=self.settings(never)):
                client.send(body)
            self.assertEqual(len(logs.output), 1)
            self.assertIn(TOO_LONG, logs.output[0])
            self.assertFalse(self.proxy.get("/simple/slug/").is_hit)
            self.assertEqual(self.proxy.sequence(), before + 2)

    def test_the_halves_keep_what_else_the_body_says_and_their_ids(self):
        sent = []

        def post(body):
            sent.append(body)
            if "/bad/" in body["paths"]:
                raise client.Rejected("no")

        body = {"paths": ["/a/", "/bad/"], "host": "shop.example", "id": "mine"}
        for _ in range(2):
            with self.assertLogs("everpage", "ERROR"):
                client.send(body, post)
        self.assertEqual([part["host"] for part in sent], ["shop.example"] * 6)
        ids = [part["id"] for part in sent]
        self.assertEqual(ids[:3], ids[3:])
        self.assertEqual(len(set(ids)), 3)

    def test_what_may_work_later_is_the_callers(self):
        with override_settings(EVERPAGE={"URL": "http://127.0.0.1:9"}), self.assertRaises(client.EverpageError):
            client.send({"paths": ["/"]})

    def settings(self, sender):
        from django.conf import settings

        return {**settings.EVERPAGE, "SENDER": f"{sender.__module__}.{sender.__name__}"}

    def test_a_sender_that_sends_by_itself(self):
        Simple.objects.create()
        self.visit("/simple/slug/")
        with override_settings(EVERPAGE=self.settings(client.send)), self.assertLogs("everpage", "ERROR") as logs:
            django_everpage.invalidate(["/simple/slug/"], tags=[TOO_LONG])
        self.assertEqual(len(logs.output), 1)
        self.assertFalse(self.proxy.get("/simple/slug/").is_hit)


def never(_body):
    raise AssertionError("the SENDER was called")
