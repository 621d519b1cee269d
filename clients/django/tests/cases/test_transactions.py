"""When is something sent? After COMMIT, once, and only what was committed."""

import asyncio
import threading

from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.db.models.signals import pre_delete
from django.test import TestCase, TransactionTestCase, override_settings, skipUnlessDBFeature
from django.test.utils import CaptureQueriesContext

import django_everpage
from django_everpage import collector, selection
from django_everpage.test import assert_invalidates, recorded
from shop import views
from shop.models import IceCream, Note, Noted, Plain, Related, Simple, Size
from support.proxy import ProxyTestCase


class Undo(Exception):
    pass


class Transactions(TransactionTestCase):
    databases = {"default", "second"}

    def posts(self, recording):
        return [set(post.paths) for post in recording.posts]

    def test_without_a_transaction_each_change_is_sent_at_once(self):
        with recorded() as recording:
            Simple.objects.create(slug="a")
            self.assertEqual(self.posts(recording), [{"/simple/a/"}])
            Simple.objects.create(slug="b")
            self.assertEqual(self.posts(recording), [{"/simple/a/"}, {"/simple/b/"}])

    def test_nothing_is_sent_before_commit_and_one_post_after(self):
        with recorded() as recording:
            with transaction.atomic():
                Simple.objects.create(slug="a").save()
                Simple.objects.create(slug="b").delete()
                self.assertEqual(recording.posts, [])
            self.assertEqual(self.posts(recording), [{"/simple/a/", "/simple/b/"}])

    def test_a_rollback_sends_nothing(self):
        with recorded() as recording:
            try:
                with transaction.atomic():
                    Simple.objects.create(slug="a")
                    raise Undo
            except Undo:
                pass
        self.assertEqual(recording.posts, [])

    def test_a_rolled_back_savepoint_is_left_out_and_a_released_one_is_not(self):
        with recorded() as recording, transaction.atomic():
            Simple.objects.create(slug="outer")
            with transaction.atomic():
                Simple.objects.create(slug="released")
            try:
                with transaction.atomic():
                    Simple.objects.create(slug="undone")
                    with transaction.atomic():
                        Simple.objects.create(slug="released into the undone")
                    raise Undo
            except Undo:
                pass
            with transaction.atomic():
                Simple.objects.create(slug="later")
        self.assertEqual(self.posts(recording), [{"/simple/outer/", "/simple/released/", "/simple/later/"}])

    def test_the_paths_of_before_are_those_of_then_even_if_later_savepoints_are_undone(self):
        simple = Simple.objects.create(slug="a")
        with recorded() as recording, transaction.atomic():
            simple.slug = "b"
            simple.save()
            try:
                with transaction.atomic():
                    simple.slug = "c"
                    simple.save()
                    raise Undo
            except Undo:
                pass
        self.assertEqual(self.posts(recording), [{"/simple/a/", "/simple/b/"}])

    def test_many_changes_and_savepoints_are_folded_into_little_memory(self):
        with recorded() as recording, transaction.atomic():
            for number in range(collector.FOLDED_FROM + 50):
                with transaction.atomic():
                    django_everpage.invalidate([f"/{number}/"])
            self.assertLess(len(connection.run_on_commit), 100)
            for number in range(2 * collector.FOLDED_FROM + 100):
                django_everpage.invalidate([f"/flat/{number}/"])
            self.assertLess(len(connection.run_on_commit), collector.FOLDED_FROM + 100)
            try:
                with transaction.atomic():
                    for _ in range(collector.FOLDED_FROM + 1):
                        django_everpage.invalidate(["/undone/"])
                    raise Undo
            except Undo:
                pass
        self.assertEqual(len(recording.posts), 1)
        self.assertEqual(len(recording.paths), 3 * collector.FOLDED_FROM + 150)
        self.assertNotIn("/undone/", recording.paths)

    def test_too_many_names_become_everything(self):
        with recorded() as recording, transaction.atomic():
            for part in range(11):
                django_everpage.invalidate(f"/{part}/{number}/" for number in range(selection.MOST_NAMES // 10))
        self.assertTrue(recording.all)
        self.assertEqual(len(recording.posts[0]), 0)

    def test_each_alias_has_transactions_of_its_own(self):
        with recorded() as recording, transaction.atomic(), transaction.atomic(using="second"):
            Simple.objects.using("second").create(slug="second")
            Simple.objects.create(slug="first")
            transaction.set_rollback(True)
            self.assertEqual(recording.posts, [])
        self.assertEqual(self.posts(recording), [{"/simple/second/"}])

    def test_the_row_of_before_is_that_of_the_same_alias(self):
        Simple.objects.create(pk=1, slug="elsewhere")
        there = Simple.objects.using("second").create(pk=1, slug="a")
        there.slug = "b"
        with assert_invalidates(["/simple/a/", "/simple/b/"]):
            there.save()

    def test_a_failed_save_sends_nothing(self):
        simple = Simple.objects.create(slug="a")
        simple.slug = None
        with recorded() as recording, self.assertRaises(Exception):
            simple.save()
        self.assertEqual(recording.posts, [])

    def test_a_batch_is_one_post_and_what_was_committed_in_it_survives_an_exception(self):
        with recorded() as recording:
            with self.assertRaises(Undo), django_everpage.batch():
                Simple.objects.create(slug="a")
                with django_everpage.batch():
                    Simple.objects.create(slug="b")
                self.assertEqual(recording.posts, [])
                raise Undo
        self.assertEqual(self.posts(recording), [{"/simple/a/", "/simple/b/"}])

    def test_a_batch_inside_a_transaction_never_sends_before_commit(self):
        with recorded() as recording:
            with transaction.atomic():
                with django_everpage.batch():
                    Simple.objects.create(slug="a")
                self.assertEqual(recording.posts, [])
            self.assertEqual(self.posts(recording), [{"/simple/a/"}])

    def test_silence(self):
        with recorded() as recording, django_everpage.silent():
            simple = Simple.objects.create(slug="a")
            simple.related_set.create(slug="r")
            simple.delete()
            django_everpage.invalidate(["/"])
        self.assertEqual(recording.posts, [])

    def test_disabled(self):
        with recorded() as recording, override_settings(EVERPAGE={"ENABLED": False}):
            Simple.objects.create(slug="a").delete()
            django_everpage.invalidate(["/"])
        self.assertEqual(recording.posts, [])

    def test_manual_transactions_are_told_at_once_and_loudly(self):
        transaction.set_autocommit(False)
        try:
            with recorded() as recording, self.assertLogs("everpage", "ERROR") as logs:
                Simple.objects.create(slug="a")
            transaction.commit()
        finally:
            transaction.set_autocommit(True)
        self.assertEqual(recording.paths, {"/simple/a/"})
        self.assertIn("autocommit is off", logs.output[0])

    def test_threads_have_transactions_of_their_own(self):
        saved, may_end = threading.Event(), threading.Event()

        def other():
            try:
                with transaction.atomic():
                    django_everpage.invalidate(["/thread/"])
                    saved.set()
                    may_end.wait(30)
            finally:
                connections.close_all()

        with recorded() as recording:
            thread = threading.Thread(target=other)
            thread.start()
            saved.wait(30)
            with transaction.atomic():
                django_everpage.invalidate(["/main/"])
            self.assertEqual(self.posts(recording), [{"/main/"}])
            may_end.set()
            thread.join()
            self.assertEqual(self.posts(recording), [{"/main/"}, {"/thread/"}])

    def test_async_saves_batches_and_silences(self):
        async def change():
            await Simple.objects.acreate(slug="a")
            with django_everpage.batch():
                simple = await Simple.objects.acreate(slug="b")
                await asyncio.gather(simple.asave(), Simple.objects.acreate(slug="c"))
            with django_everpage.silent():
                await Simple.objects.acreate(slug="d")
            await sync_to_async(connections.close_all)()

        with recorded() as recording:
            asyncio.run(change())
        self.assertEqual(self.posts(recording), [{"/simple/a/"}, {"/simple/b/", "/simple/c/"}])

    def test_fixtures_are_silent_unless_asked(self):
        fixture = f"{__file__.rpartition('/')[0]}/shop.json"
        with assert_invalidates([]):
            call_command("loaddata", fixture, verbosity=0)
        Related.objects.all().delete()
        with (
            override_settings(EVERPAGE={"FIXTURES": True}),
            assert_invalidates(["/simple/from-a-fixture/", "/related/from-a-fixture/"]),
        ):
            call_command("loaddata", fixture, verbosity=0)

    def test_update_fields_and_deferred_fields(self):
        Simple.objects.create(slug="a")
        simple = Simple.objects.defer("text").get()
        simple.slug = "b"
        with assert_invalidates(["/simple/a/", "/simple/b/"]):
            simple.save(update_fields=["slug"])
        with assert_invalidates([]):
            simple.save(update_fields=[])
        simple = Simple.objects.only("text").get()
        with assert_invalidates(["/simple/b/"]):
            simple.save()

    def test_a_row_that_is_written_over_by_a_new_object_counts_as_changed(self):
        Simple.objects.create(pk=7, slug="a")
        with assert_invalidates(["/simple/a/", "/simple/b/"]):
            Simple(pk=7, slug="b").save()

    def test_tags(self):
        ice_cream = IceCream.objects.create(slug="v", price=1)
        ice_cream.price = 2
        with assert_invalidates(["/icecream/", "/icecream/v/"], tags=["price-1", "price-2"]):
            ice_cream.save()

    def test_generic_owners_are_asked_after_prefetching_too(self):
        noted = Noted.objects.create(slug="n")
        Note.objects.create(content_object=noted)
        note = Note.objects.prefetch_related("content_object").get()
        with assert_invalidates(["/noted/n/"]):
            note.delete()

    def test_models_that_do_not_matter_are_left_alone(self):
        self.assertFalse(pre_delete.has_listeners(Plain))
        Plain.objects.bulk_create(Plain() for _ in range(3))
        with CaptureQueriesContext(connection) as queries:
            Plain.objects.all().delete()
        self.assertFalse([query for query in queries if "SELECT" in query["sql"]])

    def test_registering_and_unregistering(self):
        with assert_invalidates(["/plain/a/"]):
            Plain.dependent_paths = lambda plain: [plain.get_absolute_url()]
            self.assertIs(django_everpage.register(Plain), Plain)
            plain = Plain.objects.create(slug="a")
        django_everpage.unregister(Plain)
        del Plain.dependent_paths
        with assert_invalidates([]):
            plain.save()
        self.assertFalse(pre_delete.has_listeners(Plain))
        with self.assertRaises(KeyError):
            django_everpage.unregister(Plain)

    @skipUnlessDBFeature("has_select_for_update")
    def test_a_row_that_two_transactions_move_loses_none_of_its_addresses(self):
        """The second waits for the first before it looks where the row stands."""
        simple = Simple.objects.create(slug="a")
        first_has_moved, second_begins = threading.Event(), threading.Event()

        def second():
            try:
                mine = Simple.objects.get()
                mine.slug = "c"
                first_has_moved.wait(30)
                with transaction.atomic():
                    second_begins.set()
                    mine.save()
            finally:
                connections.close_all()

        with recorded() as recording:
            thread = threading.Thread(target=second)
            thread.start()
            with transaction.atomic():
                simple.slug = "b"
                simple.save()
                first_has_moved.set()
                second_begins.wait(30)
                self._wait_until_blocked()
            thread.join()
        self.assertEqual(self.posts(recording), [{"/simple/a/", "/simple/b/"}, {"/simple/b/", "/simple/c/"}])

    def _wait_until_blocked(self):
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        with connection.cursor() as cursor:
            for _ in range(10_000):
                cursor.execute(waiting)
                if cursor.fetchone()[0]:
                    return
        self.fail("the second transaction never waited")


class InTestCase(TestCase):
    """Nothing commits here; Django's own way to test hooks works."""

    def setUp(self):
        Size.objects.create(slug="of setUp")

    def test_captured_hooks_send_what_they_were_made_for(self):
        with recorded() as recording:
            with self.captureOnCommitCallbacks(execute=True) as callbacks:
                Simple.objects.create(slug="a")
            self.assertEqual(len(callbacks), 1)
            self.assertEqual(recording.paths, {"/simple/a/"})

    def test_assert_invalidates_needs_no_commit(self):
        with assert_invalidates(["/simple/a/"]) as recording:
            Simple.objects.create(slug="a")
        self.assertEqual(len(recording.posts), 1)

    def test_assert_invalidates_names_what_is_missing_and_what_is_too_much(self):
        with self.assertRaises(AssertionError) as raised, assert_invalidates(["/simple/b/"], tags=["t"]):
            Simple.objects.create(slug="a")
        self.assertEqual(
            str(raised.exception),
            "the path '/simple/b/' was not invalidated; the path '/simple/a/' was invalidated and not expected; "
            "the tag 't' was not invalidated",
        )


class Through(ProxyTestCase):
    """The same, seen by a visitor."""

    def test_a_save_during_a_slow_render_of_the_page_leaves_nothing_old_behind(self):
        simple = Simple.objects.create(text="old")
        views.has_read.clear()
        views.may_answer.clear()
        views.slow_path = "/simple/slug/"
        self.addCleanup(setattr, views, "slow_path", "")
        answers = []
        visitor = threading.Thread(target=lambda: answers.append(self.proxy.get("/simple/slug/")))
        visitor.start()
        self.assertTrue(views.has_read.wait(30))
        views.slow_path = ""
        simple.text = "new"
        simple.save()
        views.may_answer.set()
        visitor.join()
        self.assertIn("text=old", answers[0].text)
        self.assertIn("text=new", self.visit("/simple/slug/"))

    def test_a_page_that_is_rendered_between_save_and_commit_does_not_stay(self):
        simple = Simple.objects.create(text="old")
        old = self.visit("/simple/slug/")
        with transaction.atomic():
            simple.text = "new"
            simple.save()
            django_everpage.invalidate(["/unrelated/"])
            self.assertEqual(self.proxy.get("/simple/slug/").text, old)
        self.assert_new("/simple/slug/", old)

    def test_saves_in_views_of_both_kinds(self):
        Simple.objects.create(text="old")
        for view in ("save", "asave"):
            with self.subTest(view):
                old = self.visit("/simple/slug/")
                self.assertEqual(self.proxy.get(f"/{view}/?slug=slug&text={view}").text, "saved")
                self.assert_new("/simple/slug/", old)
