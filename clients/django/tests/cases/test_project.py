"""What a developer sees: mistakes, checks, commands, the admin, the outside of the package."""

import io
import subprocess
import sys
from unittest import mock

from django.contrib.auth.models import Permission, User
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.test import Client, TransactionTestCase, override_settings
from django.utils.translation import gettext_lazy

import django_everpage
from django_everpage import dependents, site
from django_everpage.models import OutboxEntry
from django_everpage.test import assert_invalidates, recorded
from shop import models
from shop.models import IceCream, Odd, Plain, Simple
from support.proxy import ProxyTestCase

NOBODY = {"URL": "http://127.0.0.1:9"}
STRICT = {**NOBODY, "STRICT": True}


class Answers(TransactionTestCase):
    """What dependent_paths() may give, and what not."""

    def answers(self, function):
        Odd.answer = staticmethod(function)
        self.addCleanup(setattr, Odd, "answer", staticmethod(lambda _: []))

    def test_lists_generators_sets_lazy_strings_and_urls(self):
        for given in (
            lambda _: ["/a/", "/a/"],
            lambda _: iter(["/a/"]),
            lambda _: {"/a/"},
            lambda _: [gettext_lazy("/a/")],
        ):
            self.answers(given)
            with assert_invalidates(["/a/"]):
                Odd.objects.create()
        self.answers(lambda _: ["https://shop.example/a/"])
        with assert_invalidates(["https://shop.example/a/"]):
            Odd.objects.create()

    def test_a_plain_string_is_a_type_error_as_in_django_dumper(self):
        for given, message in (
            ("/a/", "dependent_paths on Odd should be a list, not the string '/a/'"),
            (gettext_lazy("/a/"), "should be a list"),
        ):
            self.answers(lambda _, given=given: given)
            with self.assertRaisesMessage(TypeError, message):
                Odd.objects.create()

    def test_what_is_no_path_is_named_and_does_not_hide_the_others(self):
        for wrong, message in (
            ("a/", "ValueError: 'a/' is not a path"),
            ("", "the front page is '/'"),
            (None, "TypeError: None is not a path but NoneType"),
            (7, "7 is not a path but int"),
            ("/a\n/", "control character"),
        ):
            with self.subTest(wrong):
                self.answers(lambda _, wrong=wrong: ["/before/", wrong, "/after/"])
                with self.assertLogs("everpage", "ERROR") as logs, assert_invalidates(["/before/", "/after/"]):
                    odd = Odd.objects.create()
                self.assertIn(f"dependent_paths() of shop.Odd with pk {odd.pk}", logs.output[0])
                self.assertIn(message, logs.output[0])
                with override_settings(EVERPAGE=STRICT), self.assertRaisesMessage(dependents.DependentsError, message):
                    Odd.objects.create()

    def test_an_exception_is_logged_with_its_traceback_and_breaks_no_save(self):
        def paths(_):
            yield "/before/"
            raise RuntimeError("no")

        self.answers(paths)
        with self.assertLogs("everpage", "ERROR") as logs, assert_invalidates(["/before/"]):
            Odd.objects.create()
        self.assertIn("Traceback", logs.output[0])
        with override_settings(EVERPAGE=STRICT), self.assertRaises(dependents.DependentsError):
            Odd.objects.create()

    def test_a_broken_transaction_is_not_hidden(self):
        def paths(_):
            with connection.cursor() as cursor:
                cursor.execute("SELECT nothing FROM nowhere")

        self.answers(paths)
        with self.assertRaises(DatabaseError), transaction.atomic():
            Odd.objects.create()

    def test_objects_that_name_each_other_end(self):
        first = Odd(pk=1)
        self.answers(lambda odd: [first, "/a/"])
        with assert_invalidates(["/a/"]):
            Odd.objects.create(pk=2)

    def test_an_object_that_is_not_saved_yet_has_no_pages_before(self):
        asked = []
        self.answers(lambda odd: asked.append(odd.pk) or [])
        with recorded():
            odd = Odd.objects.create()
        self.assertEqual(set(asked), {odd.pk})

    def test_wrong_arguments_of_invalidate_are_the_callers(self):
        for arguments, error in (
            ({"paths": "/a/"}, TypeError),
            ({"paths": ["a"]}, ValueError),
            ({"tags": [""]}, ValueError),
        ):
            with self.subTest(arguments), self.assertRaises(error):
                django_everpage.invalidate(**arguments)
        with self.assertRaisesMessage(TypeError, "neither dependent_paths() nor"):
            django_everpage.invalidate_objects([Plain()])

    def test_the_names_of_django_dumper(self):
        self.assertEqual(list(site.get_paths_from_model(Simple(slug="a", pk=1))), ["/simple/a/"])
        with recorded() as recording:
            models.dumper.invalidation.invalidate_paths(["/a/"])
        self.assertEqual(recording.paths, {"/a/"})
        with self.assertRaises(TypeError):
            django_everpage.register("shop.Simple")


class Checks(TransactionTestCase):
    def ids(self, **settings):
        with override_settings(**settings):
            return [message.id for message in checks.run_checks() if message.id.startswith("everpage.")]

    def test_a_right_configuration_has_no_complaints(self):
        self.assertEqual(self.ids(EVERPAGE=NOBODY), [])
        self.assertEqual(self.ids(EVERPAGE={"URL": ["https://a.internal:8081", "http://[::1]:1"], "TOKEN": "t"}), [])

    def test_each_mistake_has_an_id_and_stops_the_first_use(self):
        for settings, expected in (
            (7, "everpage.E001"),
            ({"ULR": "http://127.0.0.1"}, "everpage.E002"),
            ({"URL": "127.0.0.1:8081"}, "everpage.E003"),
            ({"URL": []}, "everpage.E003"),
            ({"URL": "http://127.0.0.1:port"}, "everpage.E003"),
            ({"TOKEN": "a\nb"}, "everpage.E004"),
            ({"TIMEOUT": "5s"}, "everpage.E005"),
            ({"TIMEOUT": 0}, "everpage.E005"),
            ({"STRICT": 1}, "everpage.E006"),
            ({"SENDER": 7}, "everpage.E007"),
        ):
            with self.subTest(settings):
                self.assertEqual(self.ids(EVERPAGE=settings), [expected])
                with override_settings(EVERPAGE=settings), self.assertRaises(ImproperlyConfigured):
                    Simple.objects.create()

    def test_what_can_only_be_seen_by_looking(self):
        self.assertEqual(self.ids(EVERPAGE={"SENDER": "nowhere.at.all"}), ["everpage.E007"])
        self.assertEqual(self.ids(EVERPAGE={"URL": "http://cache.internal:8081"}), ["everpage.W001"])
        middleware = ["dumper.middleware.UpdateCacheMiddleware"]
        with mock.patch("django.core.checks.registry.registry.deployment_checks", set()):
            self.assertIn("everpage.W002", self.ids(EVERPAGE=NOBODY, MIDDLEWARE=middleware))
        self.assertEqual(self.ids(EVERPAGE=NOBODY, DUMPER_PATH_IGNORE_REGEX="^/x/"), ["everpage.W003"])
        django_everpage.register(Plain)
        self.addCleanup(django_everpage.unregister, Plain)
        self.assertEqual(self.ids(EVERPAGE=NOBODY), ["everpage.E008"])

    def test_url_and_token_come_from_the_environment_too(self):
        variables = {"EVERPAGE_ADMIN_URL": "http://cache.internal:1", "EVERPAGE_TOKEN": "secret"}
        with mock.patch.dict("os.environ", variables), override_settings(EVERPAGE={}):
            config = django_everpage.invalidation.collector.conf.get()
            self.assertEqual((config.urls, config.token), (("http://cache.internal:1",), "secret"))

    def test_a_project_that_forgot_installed_apps_is_told(self):
        script = (
            "from django.conf import settings; settings.configure(INSTALLED_APPS=[]); import django; django.setup();"
            "import django_everpage; from django.db import models\n"
            "try: django_everpage.register(models.Model)\n"
            "except Exception as error: print(error)"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        self.assertIn("add 'django_everpage' to INSTALLED_APPS", done.stdout)

    def test_the_migrations_are_complete(self):
        call_command("makemigrations", "everpage", check=True, dry_run=True, verbosity=0)


class Commands(ProxyTestCase):
    def run_command(self, *arguments, **options):
        out = io.StringIO()
        call_command(*arguments, stdout=out, stderr=out, no_color=True, **options)
        return out.getvalue()

    def test_invalidate(self):
        Simple.objects.create()
        for arguments in (["/simple/slug/"], ["--prefix", "/simple/"], ["--all"]):
            with self.subTest(arguments):
                self.store("/simple/slug/")
                self.assertIn(
                    "Would invalidate 1 stored page.", self.run_command("everpage_invalidate", *arguments, "--dry-run")
                )
                self.assert_kept("/simple/slug/")
                self.assertIn("Done as number", self.run_command("everpage_invalidate", *arguments))
                self.assertFalse(self.proxy.get("/simple/slug/").is_hit)
        self.assertIn("Nothing was stored of /typo/", self.run_command("everpage_invalidate", "/typo/"))

    def test_wrong_usage_is_64_and_failure_is_1(self):
        for arguments, code in (([], 64), (["no-slash"], 64)):
            with self.assertRaises(CommandError) as raised:
                self.run_command("everpage_invalidate", *arguments)
            self.assertEqual(raised.exception.returncode, code)
        with override_settings(EVERPAGE=NOBODY), self.assertRaises(CommandError) as raised:
            self.run_command("everpage_invalidate", "/a/")
        self.assertEqual(raised.exception.returncode, 1)
        self.assertIn("http://127.0.0.1:9 cannot be asked", str(raised.exception))

    def test_status(self):
        text = self.run_command("everpage_status")
        self.assertIn("everpage 0.", text)
        self.assertIn('"version"', self.run_command("everpage_status", "--json"))
        OutboxEntry.objects.create(body={"paths": ["/a/"]})
        with override_settings(EVERPAGE={"URL": self.proxy.url, "TOKEN": "token-of-the-tests", "OUTBOX": True}):
            self.assertIn("Waiting in the outbox on default: 1", self.run_command("everpage_status"))

    def test_check(self):
        Simple.objects.create()
        self.store("/simple/slug/")
        text = self.run_command("everpage_check")
        self.assertIn(f"{self.proxy.url}: everpage 0.1.0 answers, the token is right.", text)
        self.assertIn("/simple/slug/: stored", text)
        self.assertIn("All is well", text)
        with self.assertRaises(CommandError):
            self.run_command("everpage_check", "--strict")

    def test_check_finds_what_is_wrong(self):
        Simple.objects.create()
        with override_settings(EVERPAGE={"URL": self.proxy.url, "TOKEN": "wrong"}):
            self.assertIn("Is the token that of `admin.token`?", self._failing_check())
        with override_settings(EVERPAGE={"URL": ["http://127.0.0.1:9", self.proxy.url], "TOKEN": "token-of-the-tests"}):
            self.assertIn("http://127.0.0.1:9 cannot be asked", self._failing_check())
        Odd.objects.create()
        Odd.answer = staticmethod(lambda _: ["/nowhere"])
        self.addCleanup(setattr, Odd, "answer", staticmethod(lambda _: []))
        self.assertIn("/nowhere is no URL of this project", self.run_command("everpage_check"))
        Odd.answer = staticmethod(lambda _: 1 / 0)
        self.assertIn("ZeroDivisionError", self._failing_check())

    def _failing_check(self):
        out = io.StringIO()
        with self.assertRaises(CommandError):
            call_command("everpage_check", stdout=out, stderr=out, no_color=True)
        return out.getvalue()


class Admin(ProxyTestCase):
    def setUp(self):
        self.client = Client()
        self.client.force_login(User.objects.create_superuser("root"))
        self.ice_cream = IceCream.objects.create(slug="<b>v")
        self.panel = f"/admin/shop/icecream/{self.ice_cream.pk}/everpage/"

    def test_the_panel_shows_what_depends_on_the_object_and_what_is_stored(self):
        self.store("/icecream/")
        self.assertContains(
            self.client.get(f"/admin/shop/icecream/{self.ice_cream.pk}/change/"), f'href="{self.panel}"'
        )
        page = self.client.get(self.panel)
        self.assertContains(page, "<tr><td>/icecream/</td><td>yes</td></tr>", html=True)
        self.assertContains(page, "<tr><td>/icecream/&lt;b&gt;v/</td><td>no</td></tr>", html=True)
        self.assertNotContains(page, "<b>v")
        self.assertContains(page, "price-0")

    def test_the_panel_works_when_the_proxy_is_down(self):
        with override_settings(EVERPAGE=NOBODY):
            page = self.client.get(self.panel)
            self.assertContains(page, "Cannot say what is stored")
            self.assertContains(page, "<td>unknown</td>")
            self.assertContains(self.client.post(self.panel, follow=True), "The cache could not be cleared")

    def test_the_button_and_the_action_clear(self):
        action = {"action": "clear_from_cache", "_selected_action": [self.ice_cream.pk]}
        for address, data in ((self.panel, {}), ("/admin/shop/icecream/", action)):
            with self.subTest(address):
                self.visit("/icecream/")
                self.assertContains(self.client.post(address, data, follow=True), "Cleared from the cache")
                self.assertFalse(self.proxy.get("/icecream/").is_hit)

    def test_who_may_not_change_may_look_but_not_clear_and_who_may_not_look_sees_nothing(self):
        user = User.objects.create_user("viewer", is_staff=True)
        self.client.force_login(user)
        self.assertEqual(self.client.get(self.panel).status_code, 403)
        user.user_permissions.add(Permission.objects.get(codename="view_icecream"))
        self.assertNotContains(self.client.get(self.panel), "Clear from cache")
        self.visit("/icecream/")
        self.assertEqual(self.client.post(self.panel).status_code, 403)
        self.client.post(
            "/admin/shop/icecream/", {"action": "clear_from_cache", "_selected_action": [self.ice_cream.pk]}
        )
        self.assert_kept("/icecream/")
        self.client.logout()
        self.assertEqual(self.client.get(self.panel).status_code, 302)

    def test_a_forged_request_does_not_clear(self):
        careful = Client(enforce_csrf_checks=True)
        careful.force_login(User.objects.get())
        self.assertEqual(careful.post(self.panel).status_code, 403)

    def test_an_object_that_is_gone(self):
        self.assertRedirects(
            self.client.get("/admin/shop/icecream/999/everpage/"), "/admin/", fetch_redirect_response=False
        )
