"""What sends no signals: UPDATE of many rows. The pages of before and after go, after COMMIT."""

import threading

from django.db import connection, transaction
from django.test import TransactionTestCase, override_settings, skipUnlessDBFeature

from django_everpage import invalidating, retry
from shop.models import Restaurant, Simple
from support import listener


class Updates(TransactionTestCase):
    databases = {"default", "second"}

    def setUp(self):
        retry.queue.reset()
        self.proxy = listener.Listener()
        self.addCleanup(self.proxy.stop)
        settings = override_settings(EVERPAGE={"URL": self.proxy.url})
        settings.enable()
        self.addCleanup(settings.disable)

    def test_a_queryset_that_is_filtered_by_what_changes(self):
        Simple.objects.bulk_create([Simple(slug="a", text="old"), Simple(slug="b", text="other")])
        with invalidating(Simple.objects.filter(text="old")) as rows:
            self.assertEqual(rows.update(text="new", slug="moved"), 1)
            self.assertEqual(self.proxy.bodies, [])
        self.assertEqual([set(body["paths"]) for body in self.proxy.bodies], [{"/simple/a/", "/simple/moved/"}])

    def test_it_goes_with_the_transaction_around_it_and_with_none_that_fails(self):
        Simple.objects.bulk_create([Simple(slug="a")])
        with self.assertRaises(ZeroDivisionError), invalidating(Simple.objects.all()) as rows:
            rows.update(slug=str(1 / 0))
        with transaction.atomic():
            with invalidating(Simple.objects.all()) as rows:
                rows.update(slug="b")
            self.assertEqual(self.proxy.bodies, [])
        self.assertEqual(set(self.proxy.paths), {"/simple/a/", "/simple/b/"})

    def test_slices_other_databases_and_inherited_rows(self):
        Simple.objects.using("second").bulk_create([Simple(slug=slug) for slug in "abc"])
        with invalidating(Simple.objects.using("second").order_by("slug")[1:]) as rows:
            rows.update(text="new")
        self.assertEqual(set(self.proxy.paths), {"/simple/b/", "/simple/c/"})
        Restaurant.objects.create(slug="r")
        self.proxy.bodies.clear()
        with invalidating(Restaurant.objects.filter(stars=0)) as rows:
            rows.update(stars=3)
        self.assertEqual(set(self.proxy.paths), {f"/{kind}/r/" for kind in ("place", "restaurant", "landmark")})

    @skipUnlessDBFeature("has_select_for_update")
    def test_no_other_transaction_moves_a_row_between_the_first_look_and_the_update(self):
        Simple.objects.bulk_create([Simple(slug="a")])
        done = threading.Event()

        def move():
            try:
                Simple.objects.update(slug="b")
                done.set()
            finally:
                connection.close()

        with invalidating(Simple.objects.all()) as rows:
            other = threading.Thread(target=move)
            other.start()
            self.assertFalse(done.wait(0.5))
            rows.update(text="new")
        other.join()
        self.assertTrue(done.is_set())
        # Asked again after COMMIT, the row may have the other's address already.
        self.assertLessEqual({"/simple/a/"}, set(self.proxy.paths))
