"""Nothing that the package says holds the token or a password."""

from django.core.exceptions import ImproperlyConfigured
from django.test import SimpleTestCase, override_settings

from django_everpage import conf
from django_everpage.checks import check_settings

SECRET = "s3cret-of-mine"


class Secrets(SimpleTestCase):
    def test_a_mistake_in_the_settings_is_told_without_what_is_secret(self):
        well = {"URL": "http://127.0.0.1:9", "TOKEN": SECRET}
        for settings, expected in (
            ((well,), "everpage.E001"),  # a comma too many
            ([well], "everpage.E001"),
            ({"URL": f"http://user:{SECRET}@127.0.0.1:9"}, "everpage.E003"),
            ({"URL": f"http://{SECRET}@127.0.0.1:port"}, "everpage.E003"),
            ({"URL": [well]}, "everpage.E003"),
            ({"URL": well}, "everpage.E003"),
            ({"URL": f"http://127.0.0.1:9?token={SECRET}"}, "everpage.E003"),
            ({"TOKEN": SECRET + "\n"}, "everpage.E004"),
        ):
            with self.subTest(settings), override_settings(EVERPAGE=settings):
                found = check_settings()
                self.assertEqual([message.id for message in found], [expected])
                self.assertNotIn(SECRET, repr([str(message) for message in found]))
                with self.assertRaises(ImproperlyConfigured) as raised:
                    conf.get()
                self.assertNotIn(SECRET, str(raised.exception))

    def test_the_settings_can_be_printed(self):
        with override_settings(EVERPAGE={"URL": "http://127.0.0.1:9", "TOKEN": SECRET}):
            self.assertEqual(conf.get().token, SECRET)
            self.assertNotIn(SECRET, repr(conf.get()))
