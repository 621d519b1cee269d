"""What if the proxy does not take it? Nothing is lost, and nobody's save breaks."""

import asyncio
import os
import signal
import threading
import time
import uuid

from asgiref.sync import sync_to_async
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction
from django.test import TransactionTestCase, override_settings, skipUnlessDBFeature

import django_everpage
from django_everpage import client, delivery, outbox, retry
from django_everpage.models import OutboxEntry
from django_everpage.selection import NAMES_OF_A_POST, Selection
from shop.models import Place, Restaurant, Simple
from support import listener

NOBODY = "http://127.0.0.1:9"


def told(_body):
    return 200, {"sequence": 1, "nodes": 1}


class Delivery(TransactionTestCase):
    databases = {"default", "second"}

    def setUp(self):
        retry.queue.reset()
        outbox.look_soon()
        self.addCleanup(retry.queue.reset)

    def listen(self, answer=told):
        found = listener.Listener(answer)
        self.addCleanup(found.stop)
        return found

    def use(self, **settings):
        override = override_settings(EVERPAGE=settings)
        override.enable()
        self.addCleanup(override.disable)

    def wait_until(self, condition):
        deadline = time.monotonic() + 30
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def test_the_token_the_reason_and_an_id_go_along(self):
        proxy = self.listen()
        self.use(URL=proxy.url, TOKEN="secret")
        simple = Simple.objects.create(slug="a")
        self.assertEqual(proxy.headers[0]["Authorization"], "Bearer secret")
        self.assertEqual(proxy.bodies[0]["paths"], ["/simple/a/"])
        self.assertEqual(proxy.bodies[0]["reason"], f"Simple {simple.pk} created")
        uuid.UUID(proxy.bodies[0]["id"])

    def test_the_next_url_is_asked_when_one_is_down_or_silent(self):
        silent, up = self.listen(lambda _: None), self.listen()
        self.use(URL=[NOBODY, silent.url, up.url], TIMEOUT=3)
        Simple.objects.create(slug="a")
        self.assertEqual(up.paths, ["/simple/a/"])
        self.assertEqual(silent.bodies[0]["id"], up.bodies[0]["id"])

    def test_a_failure_is_logged_with_its_paths_and_repeated_by_the_same_id(self):
        statuses = iter([503, 401, 500])
        proxy = self.listen(lambda body: (next(statuses, 200), {"error": "e", "detail": "later"}))
        self.use(URL=proxy.url)
        with self.assertLogs("everpage", "ERROR") as logs:
            Simple.objects.create(slug="a")
        self.assertIn("answered 503: e: later. Named: '/simple/a/'", logs.output[0])
        self.wait_until(lambda: len(proxy.bodies) == 4 and not len(retry.queue))
        self.assertEqual(len({body["id"] for body in proxy.bodies}), 1)

    def test_what_is_no_everpage_is_no_success(self):
        proxy = self.listen(lambda _: (200, b"<html>"))
        self.use(URL=proxy.url)
        with self.assertRaises(client.EverpageError):
            client.post({"paths": ["/"]})

    def test_nobody_waits_twice_for_a_silent_proxy(self):
        proxy = self.listen(lambda _: None)
        self.use(URL=proxy.url, TIMEOUT=0.3)
        with self.assertLogs("everpage", "ERROR"):
            Simple.objects.create(slug="a")
        self.assertTrue(retry.queue.is_stalled())
        with self.assertLogs("everpage", "ERROR") as logs:
            Simple.objects.create(slug="b")
        self.assertIn("did not answer a moment ago", logs.output[0])
        proxy.answer = told
        self.wait_until(lambda: {"/simple/a/", "/simple/b/"} <= set(proxy.paths) and not len(retry.queue))
        self.assertFalse(retry.queue.is_stalled())

    def test_what_waits_is_bounded_and_finally_becomes_everything(self):
        self.use(URL=NOBODY)
        queue = retry.Queue()
        queue.thread = threading.current_thread()  # none of its own
        for number in range(retry.MOST_BODIES + 20):
            queue.add([{"paths": [f"/{number}/{n}/" for n in range(10_000)], "id": str(uuid.uuid4())}])
        self.assertEqual(len(queue.bodies), retry.MOST_BODIES)
        self.assertTrue(queue.folded.all)
        self.assertEqual(len(queue.folded), 0)

    def test_strict_raises_after_commit(self):
        self.use(URL=NOBODY, STRICT=True)
        with self.assertRaisesMessage(delivery.DeliveryFailed, "/simple/a/"):
            Simple.objects.create(slug="a")
        with self.assertRaises(delivery.DeliveryFailed), transaction.atomic():
            Simple.objects.create(slug="b")
        self.assertEqual(Simple.objects.count(), 2)

    def test_many_names_are_several_posts(self):
        proxy = self.listen()
        self.use(URL=proxy.url)
        django_everpage.invalidate(f"/{number}/" for number in range(2 * NAMES_OF_A_POST + 1))
        self.assertEqual([len(body["paths"]) for body in proxy.bodies], [NAMES_OF_A_POST, NAMES_OF_A_POST, 1])
        self.assertEqual(len({body["id"] for body in proxy.bodies}), 3)

    def test_long_names_are_several_posts(self):
        proxy = self.listen()
        self.use(URL=proxy.url)
        django_everpage.invalidate(f"/{number}{'ü' * 100_000}/" for number in range(15))
        self.assertEqual(sum(len(body["paths"]) for body in proxy.bodies), 15)
        self.assertGreater(len(proxy.bodies), 1)

    def test_an_id_is_never_used_for_something_else(self):
        event = uuid.uuid4()
        one, other = Selection(), Selection()
        one.add(paths=["/a/"])
        other.add(paths=["/b/"])
        ids = [next(selection.bodies(event))["id"] for selection in (one, one, other)]
        self.assertEqual(ids[0], ids[1])
        self.assertNotEqual(ids[0], ids[2])

    def test_a_sender_of_ones_own(self):
        self.use(SENDER="cases.test_delivery.queue_up")
        Simple.objects.create(slug="a")
        self.assertEqual(queued.pop()["paths"], ["/simple/a/"])

    def test_a_sender_that_raises_breaks_nothing(self):
        self.use(SENDER="cases.test_delivery.broken_broker")
        with self.assertLogs("everpage", "ERROR") as logs:
            Simple.objects.create(slug="a")
        self.assertIn("cases.test_delivery.broken_broker: RuntimeError: broker is down", logs.output[0])

    def test_the_end_of_the_process_sends_or_names_what_is_left(self):
        proxy = self.listen()
        retry.queue.thread = threading.current_thread()
        retry.queue.add([{"paths": ["/a/"], "id": str(uuid.uuid4())}])
        self.use(URL=proxy.url)
        retry.queue.finish()
        self.assertEqual(proxy.paths, ["/a/"])
        self.use(URL=NOBODY)
        retry.queue.add([{"paths": ["/b/"], "id": str(uuid.uuid4())}])
        with self.assertLogs("everpage", "ERROR") as logs:
            retry.queue.finish()
        self.assertIn("/b/", logs.output[0])

    def test_a_forked_child_begins_with_an_empty_queue(self):
        retry.queue.thread = threading.current_thread()
        retry.queue.add([{"paths": ["/a/"], "id": str(uuid.uuid4())}])
        with retry.queue.lock:  # as if another thread held it at the fork
            child = os.fork()
            if child == 0:
                signal.alarm(10)  # a lock that is never released ends it
                os._exit(len(retry.queue))
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertEqual(len(retry.queue), 1)

    # The outbox

    def test_a_row_is_there_until_the_proxy_has_answered(self):
        seen = []
        proxy = self.listen(lambda _: seen.append(1) or told(_))
        self.use(URL=proxy.url, OUTBOX=True)
        with transaction.atomic():
            Simple.objects.create(slug="a")
            self.assertEqual(OutboxEntry.objects.get().body["paths"], ["/simple/a/"])
            self.assertEqual(seen, [])
        self.assertEqual(OutboxEntry.objects.count(), 0)
        self.assertEqual(proxy.paths, ["/simple/a/"])

    def test_a_batch_in_async_code_empties_the_outbox(self):
        async def change():
            with django_everpage.batch():
                await Simple.objects.acreate(slug="a")
                await Simple.objects.acreate(slug="b")
            await sync_to_async(connections.close_all)()

        proxy = self.listen()
        self.use(URL=proxy.url, OUTBOX=True)
        asyncio.run(change())
        self.assertEqual(proxy.paths, ["/simple/a/", "/simple/b/"])
        self.assertEqual(len(proxy.bodies), 1)
        self.assertEqual(OutboxEntry.objects.count(), 0)

    def test_a_rollback_takes_the_row_along(self):
        self.use(URL=NOBODY, OUTBOX=True)
        with transaction.atomic():
            Simple.objects.create(slug="a")
            transaction.set_rollback(True)
        self.assertEqual(OutboxEntry.objects.count(), 0)

    def test_a_save_in_autocommit_mode_commits_with_its_row(self):
        self.use(URL=NOBODY, OUTBOX=True)
        for make in (lambda: Simple.objects.create(slug="a"), lambda: Restaurant.objects.create(slug="r")):
            with self.assertLogs("everpage", "ERROR"):
                make()
        self.assertEqual(OutboxEntry.objects.count(), 2)
        with self.assertRaises(outbox.DatabaseError), self._broken_outbox():
            Simple.objects.create(slug="lost")
        self.assertFalse(Simple.objects.filter(slug="lost").exists())

    def _broken_outbox(self):
        def fail(execute, sql, params, many, context):
            if "everpage_outboxentry" in sql:
                raise outbox.DatabaseError("no such table")
            return execute(sql, params, many, context)

        return connection.execute_wrapper(fail)

    def test_the_row_is_on_the_alias_of_the_object(self):
        self.use(URL=NOBODY, OUTBOX=True)
        with self.assertLogs("everpage", "ERROR"):
            Simple.objects.using("second").create(slug="a")
        self.assertEqual(OutboxEntry.objects.count(), 0)
        self.assertEqual(OutboxEntry.objects.using("second").count(), 1)

    def test_the_relay_sends_all_aliases_by_the_id_of_the_first_try(self):
        bodies = []
        proxy = self.listen(lambda body: (503, {"error": "later"}))
        self.use(URL=proxy.url, OUTBOX=True)
        with self.assertLogs("everpage", "ERROR"):
            Simple.objects.create(slug="a")
            Simple.objects.using("second").create(slug="b")
        with self.assertRaises(CommandError):
            call_command("everpage_relay", "--once")
        bodies = {body["paths"][0]: body["id"] for body in proxy.bodies[:2]}
        proxy.answer = told
        call_command("everpage_relay", "--once", stdout=open(os.devnull, "w"))
        self.assertEqual({body["paths"][0]: body["id"] for body in proxy.bodies[-2:]}, bodies)
        self.assertFalse(OutboxEntry.objects.exists() or OutboxEntry.objects.using("second").exists())

    def test_the_next_success_sends_what_is_left(self):
        self.use(URL=NOBODY, OUTBOX=True)
        with self.assertLogs("everpage", "ERROR"):
            Simple.objects.create(slug="a")
        proxy = self.listen()
        self.use(URL=proxy.url, OUTBOX=True)
        Simple.objects.create(slug="b")
        self.assertEqual(proxy.paths, ["/simple/b/", "/simple/a/"])
        self.assertEqual(OutboxEntry.objects.count(), 0)

    def test_one_selector_that_is_rejected_does_not_take_others_with_it(self):
        def answer(body):
            return (400, {"error": "bad-path", "detail": "no"}) if "/bad/" in body["paths"] else told(body)

        proxy = self.listen(answer)
        self.use(URL=proxy.url, OUTBOX=True)
        with self.assertLogs("everpage", "ERROR") as logs, transaction.atomic():
            for number in range(5):
                django_everpage.invalidate([f"/{number}/"])
            django_everpage.invalidate(["/bad/"])
        self.assertEqual(len(logs.output), 1)
        self.assertIn("/bad/", logs.output[0])
        done = {path for body in proxy.bodies if answer(body)[0] == 200 for path in body["paths"]}
        self.assertEqual(done, {f"/{number}/" for number in range(5)})
        self.assertEqual(OutboxEntry.objects.count(), 0)

    @skipUnlessDBFeature("has_select_for_update_skip_locked")
    def test_two_relays_share_the_work(self):
        entered, may_end = threading.Event(), threading.Event()

        def answer(body):
            entered.set()
            may_end.wait(30)
            return told(body)

        proxy = self.listen(answer)
        self.use(URL=proxy.url, OUTBOX=True)
        OutboxEntry.objects.create(body={"paths": ["/a/"]})

        def first():
            try:
                outbox.relay("default", delivery.send_selection)
            finally:
                connection.close()

        thread = threading.Thread(target=first)
        thread.start()
        self.assertTrue(entered.wait(30))
        self.assertEqual(outbox.relay("default", delivery.send_selection), 0)
        may_end.set()
        thread.join()
        self.assertEqual(proxy.paths, ["/a/"])
        self.assertEqual(OutboxEntry.objects.count(), 0)


queued = []


def queue_up(body):
    queued.append(body)


def broken_broker(_body):
    raise RuntimeError("broker is down")


class SharedRows(TransactionTestCase):
    """Multi-table inheritance and proxies: one row, several models."""

    def test_a_saved_child_is_a_saved_parent_and_the_other_way_round(self):
        from django_everpage.test import assert_invalidates

        restaurant = Restaurant.objects.create(slug="a")
        everything = [f"/{kind}/a/" for kind in ("place", "restaurant", "landmark")]
        with assert_invalidates(everything):
            restaurant.save()
        with assert_invalidates(everything):
            Place.objects.get().save()
        place = Place.objects.get()
        place.slug = "b"
        with assert_invalidates([*everything, *(path.replace("/a/", "/b/") for path in everything)]):
            place.save()
        with assert_invalidates([path.replace("/a/", "/b/") for path in everything]):
            place.delete()
