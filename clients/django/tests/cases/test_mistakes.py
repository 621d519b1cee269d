"""What goes wrong in a project's own code or in an unusual save, and what is sent all the same."""

import uuid
from contextlib import suppress
from unittest import mock, skipIf, skipUnless

import django
from django.db import DatabaseError, connection, models, transaction
from django.db.migrations.state import ProjectState
from django.db.models.signals import m2m_changed, post_save, pre_delete, pre_save
from django.test import TestCase, TransactionTestCase, override_settings
from django.urls import reverse_lazy

import django_everpage
from django_everpage import again, dependents, hooks, selection, site
from django_everpage.models import OutboxEntry
from django_everpage.test import assert_invalidates, recorded
from shop import models as shop
from shop.models import (
    Bar,
    Beer,
    Brewer,
    Club,
    Hop,
    Membership,
    Note,
    Noted,
    Odd,
    Person,
    Place,
    Plain,
    Restaurant,
    Simple,
    Size,
    Ticket,
    Venue,
)

NOBODY = {"URL": "http://127.0.0.1:9"}
OUTBOX = {**NOBODY, "OUTBOX": True}
STRICT = {**NOBODY, "STRICT": True}


class Refused(Exception):
    pass


class Project(TransactionTestCase):
    def answers(self, function):
        Odd.answer = staticmethod(function)
        self.addCleanup(setattr, Odd, "answer", staticmethod(lambda _: []))

    def receive(self, signal, sender, function, *, first=False):
        signal.connect(function, sender=sender, weak=False)
        if first:  # as one that is connected while the project's models are imported
            signal.receivers.insert(0, signal.receivers.pop())
            signal.sender_receivers_cache.clear()
        self.addCleanup(signal.disconnect, function, sender=sender)


class Objects(Project):
    """Objects among the paths."""

    def test_objects_that_are_freed_as_soon_as_they_were_asked(self):
        slugs = [f"{number:03}" for number in range(300)]
        Simple.objects.bulk_create(Simple(slug=slug) for slug in slugs)
        for name, function in {
            "iterator": lambda _: Simple.objects.iterator(),
            "chunks": lambda _: Simple.objects.iterator(chunk_size=7),
            "one by one": lambda _: (Simple.objects.get(slug=slug) for slug in slugs),
            "made": lambda _: (Place(slug=slug) for slug in slugs),
            "all": lambda _: Simple.objects.all(),
        }.items():
            with self.subTest(name), recorded() as recording:
                self.answers(function)
                Odd.objects.create()
                self.assertEqual(len(recording.paths), 300)

    def test_objects_that_name_each_other_in_a_circle_or_many_times_over_end(self):
        asked = []
        odds = Odd.objects.bulk_create(Odd(slug=str(number)) for number in range(30))
        self.answers(lambda odd: asked.append(odd.slug) or [f"/{odd.slug}/", *odds])
        with assert_invalidates([f"/{number}/" for number in range(30)]):
            django_everpage.invalidate_objects([odds[0]])
        self.assertLess(len(asked), 100)
        mirror, other = Odd(slug="mirror"), Odd(slug="other")
        self.answers(lambda odd: [f"/{odd.slug}/", other if odd is mirror else mirror])
        self.assertEqual(set(hooks.selection_of(mirror, "default").paths), {"/mirror/", "/other/"})


class Mistakes(Project):
    """In dependent_paths(), or in receivers of the project's own."""

    def moves(self, instance, paths, error=None):
        instance.slug = "new"
        with recorded() as recording:
            if error:
                with self.assertRaises(error):
                    instance.save()
            else:
                instance.save()
        self.assertEqual(type(instance).objects.get(pk=instance.pk).slug, "new")
        self.assertEqual(recording.paths, set(paths))

    def test_a_lazy_string_that_cannot_be_made_breaks_neither_save_nor_delete(self):
        self.answers(lambda _: ["/before/", reverse_lazy("nowhere"), "/after/"])
        for change in (lambda: Odd.objects.create(), lambda: Odd.objects.get().delete()):
            with self.assertLogs("everpage", "ERROR") as logs, assert_invalidates(["/before/", "/after/"]):
                change()
            self.assertIn("NoReverseMatch", logs.output[0])
        with override_settings(EVERPAGE=STRICT), recorded(), self.assertRaisesMessage(Exception, "NoReverseMatch"):
            Odd.objects.create()

    def test_none_is_a_mistake_and_what_the_object_named_before_goes(self):
        self.answers(lambda odd: [f"/odd/{odd.slug}/"] if odd.slug == "old" else None)
        for block in (transaction.atomic, mock.MagicMock):
            odd = Odd.objects.create(slug="old")
            with self.assertLogs("everpage", "ERROR") as logs, block():
                self.moves_inside(odd, "new")
            self.assertIn("gave None: return [] when no page shows the object", logs.output[0])
        self.assertEqual(self.recording.paths, {"/odd/old/"})

    def moves_inside(self, odd, slug):
        odd.slug = slug
        with recorded() as self.recording:
            odd.save()

    def test_a_plain_string_raises_and_what_the_object_named_before_goes(self):
        self.answers(lambda odd: ["/odd/old/"] if odd.slug == "old" else "/odd/new/")
        with self.assertLogs("everpage", "ERROR"):
            self.moves(Odd.objects.create(slug="old"), ["/odd/old/"], TypeError)

    def test_strict_raises_and_what_the_object_named_before_goes(self):
        self.answers(lambda odd: ["/odd/old/"] if odd.slug == "old" else [7])
        with recorded():
            odd = Odd.objects.create(slug="old")
        with override_settings(EVERPAGE=STRICT), self.assertLogs("everpage", "ERROR"):
            self.moves(odd, ["/odd/old/"], dependents.DependentsError)

    def test_a_mistake_in_one_function_does_not_hide_the_other(self):
        self.answers(lambda _: "a string")

        def dependent_tags(_odd):
            return ["tag"]

        self.addCleanup(site.changed)
        self.addCleanup(delattr, Odd, "dependent_tags")
        Odd.dependent_tags = dependent_tags
        site.changed()
        with self.assertLogs("everpage", "ERROR"), recorded() as recording, self.assertRaises(TypeError):
            Odd.objects.create()
        self.assertEqual(recording.tags, {"tag"})

    def test_a_receiver_that_raises_after_the_row_was_written_hides_nothing(self):
        def refuse(instance, **_):
            raise Refused

        for first in (True, False):
            simple = Simple.objects.create(slug="old")
            self.receive(post_save, Simple, refuse, first=first)
            self.moves(simple, ["/simple/old/", "/simple/new/"], Refused)
            with recorded() as recording, self.assertRaises(Refused):
                Simple.objects.create(slug="created")
            self.assertEqual(recording.paths, {"/simple/created/"})
            post_save.disconnect(refuse, sender=Simple)
        self.receive(post_save, Simple, refuse, first=True)
        simple.slug = "newer"
        with recorded() as recording:
            with transaction.atomic():
                with self.assertRaises(Refused):
                    simple.save()
        self.assertEqual(recording.paths, {"/simple/new/", "/simple/newer/"})

    def test_a_receiver_that_refuses_before_the_row_is_written_sends_nothing(self):
        def refuse(instance, **_):
            raise Refused

        simple = Simple.objects.create(slug="old")
        self.receive(pre_save, Simple, refuse)
        simple.slug = "new"
        with assert_invalidates([]), self.assertRaises(Refused):
            simple.save()
        with assert_invalidates([]), self.assertRaises(Refused):
            Simple.objects.create(slug="other")

    def test_a_receiver_that_saves_once_more_does_not_hide_what_was_before(self):
        def again(instance, **_):
            if instance.text != "twice":
                instance.text = "twice"
                instance.save()

        simple = Simple.objects.create(slug="old")
        self.receive(post_save, Simple, again, first=True)
        self.moves(simple, ["/simple/old/", "/simple/new/"])

    def test_a_save_that_fails_inside_a_transaction_undoes_nothing_else(self):
        def refuse(instance, **_):
            if instance.slug == "bad":
                raise ValueError

        for settings in (NOBODY, OUTBOX):
            for signal in (pre_save, post_save):
                with self.subTest(settings=settings, signal=signal), override_settings(EVERPAGE=settings), recorded():
                    Size.objects.all().delete()
                    self.receive(signal, Size, refuse)
                    with transaction.atomic():
                        Size(slug="first").save()
                        with suppress(ValueError):
                            Size(slug="bad").save()
                        Size(slug="last").save()
                    signal.disconnect(refuse, sender=Size)
                    self.assertLessEqual({"first", "last"}, set(Size.objects.values_list("slug", flat=True)))

    def test_after_commit_the_database_may_be_gone(self):
        def fail(execute, sql, params, many, context):
            if "FROM" in sql and not connection.in_atomic_block:
                raise DatabaseError("gone")
            return execute(sql, params, many, context)

        for settings, rows in ((NOBODY, 0), (OUTBOX, 1)):
            with override_settings(EVERPAGE=settings), self.assertLogs("everpage", "ERROR") as logs:
                with recorded() as recording, connection.execute_wrapper(fail), transaction.atomic():
                    Simple.objects.create(slug="a")
            self.assertIn("could not be asked again after COMMIT", logs.output[0])
            self.assertEqual(recording.paths, {"/simple/a/"})
            self.assertEqual(OutboxEntry.objects.count(), rows)


class Managers(Project):
    """The managers at the other end of a foreign key: they update rows without signals."""

    def test_every_change_of_a_foreign_key_from_the_other_end(self):
        one, two = Brewer.objects.create(slug="one"), Brewer.objects.create(slug="two")
        beer = Beer.objects.create(slug="b", brewer=two)
        both = ["/beer/b/", "/brewer/one/", "/brewer/two/"]
        first = ["/beer/b/", "/brewer/one/"]
        for name, change, paths in (
            ("add", lambda: one.beers.add(beer), both),
            ("remove", lambda: one.beers.remove(beer), first),
            ("set", lambda: one.beers.set([beer]), first),
            ("set to none", lambda: one.beers.set([]), first),
            ("add by another manager", lambda: one.beers(manager="objects").add(beer), first),
            ("clear", lambda: one.beers.clear(), first),
            ("clear nothing", lambda: one.beers.clear(), []),
            ("set and clear", lambda: one.beers.set([beer], clear=True), first),
            ("clear by another manager", lambda: one.beers(manager="objects").clear(), first),
            ("one by one", lambda: one.beers.add(beer, bulk=False), first),
        ):
            for block in (transaction.atomic, mock.MagicMock):
                with self.subTest(name), transaction.atomic():
                    with assert_invalidates(paths), block():
                        change()
                    beer.refresh_from_db()
                    transaction.set_rollback(block is transaction.atomic)
                beer.refresh_from_db()

    def test_outside_a_transaction_it_is_sent_at_once_and_with_an_outbox_it_commits_with_its_row(self):
        brewer, beer = Brewer.objects.create(slug="x"), Beer.objects.create(slug="b")
        with recorded() as recording:
            brewer.beers.add(beer)
            self.assertEqual(recording.paths, {"/beer/b/", "/brewer/x/"})
        with override_settings(EVERPAGE=OUTBOX), self.assertLogs("everpage", "ERROR"):
            brewer.beers.clear()
        self.assertEqual(OutboxEntry.objects.count(), 1)

    def test_a_wrong_argument_is_djangos_to_refuse_and_undoes_nothing_else(self):
        brewer = Brewer.objects.create(slug="x")
        with assert_invalidates(["/simple/a/"]), transaction.atomic():
            simple = Simple.objects.create(slug="a")
            for wrong, error in ((simple, TypeError), (Beer(slug="unsaved"), ValueError)):
                with self.assertRaises(error):
                    brewer.beers.add(wrong)
        with self.assertRaises(Brewer.DoesNotExist):
            brewer.beers.remove(Beer.objects.create())

    def test_generic_relations(self):
        one, two = Noted.objects.create(slug="1"), Noted.objects.create(slug="2")
        note = Note.objects.create(content_object=one)
        with assert_invalidates(["/noted/1/", "/noted/2/"]):
            two.notes.add(note)
        with assert_invalidates(["/noted/2/"]):
            two.notes.remove(note)
        note = Note.objects.create(content_object=one)
        with assert_invalidates(["/noted/1/"]):
            one.notes.clear()
        note = Note.objects.create(content_object=one)
        with assert_invalidates(["/noted/1/", "/noted/2/"]):
            two.notes.set([note])

    def test_a_table_between(self):
        club, other = Club.objects.create(slug="c"), Club.objects.create(slug="o")
        member = Membership.objects.create(club=club, person=Person.objects.create(slug="p"))
        with assert_invalidates(["/club/c/", "/club/o/", "/person/p/"]):
            other.membership_set.add(member)

    def test_managers_are_left_alone_where_nothing_is_registered(self):
        def of_brewer():
            return type(Brewer(pk=1).beers).__mro__

        hooked = len(of_brewer())
        for model in (Beer, Hop, Brewer):
            django_everpage.unregister(model)
            self.addCleanup(django_everpage.register, model)
        self.assertLess(len(of_brewer()), hooked)
        self.assertTrue(Brewer.beers.related_manager_cls.add.alters_data)


class UnusualSaves(Project):
    def test_a_row_that_becomes_a_child(self):
        place = Place.objects.create(slug="old")
        with recorded() as recording:
            Restaurant(place_ptr_id=place.pk, slug="new").save()
        new = {"/place/new/", "/restaurant/new/", "/landmark/new/"}
        self.assertLessEqual({"/place/old/", "/landmark/old/", *new}, recording.paths)
        venue = Venue.objects.create(slug="old")
        with assert_invalidates(["/venue/old/", "/venue/new/"]):
            Bar(venue_ptr=venue, slug="new").save()

    @skipIf(django.VERSION < (5, 0), "inserts it all the same")
    def test_a_row_whose_key_has_a_default(self):
        ticket = Ticket.objects.create(slug="old")
        with assert_invalidates(["/ticket/old/", "/ticket/new/"]):
            Ticket(id=ticket.pk, slug="new").save(force_update=True)
        with assert_invalidates(["/ticket/x/"]):
            Ticket.objects.create(id=uuid.uuid4(), slug="x")

    @skipUnless(hasattr(shop, "Computed"), "needs GeneratedField")
    def test_an_address_that_the_database_makes(self):
        shop.Computed.objects.create(name="A")
        computed = shop.Computed.objects.get()
        computed.name = "B"
        with assert_invalidates(["/computed/a/", "/computed/b/"]):
            computed.save()

    def test_too_many_changed_objects_become_everything(self):
        with mock.patch.object(selection, "MOST_TOUCHED", 10), recorded() as recording, transaction.atomic():
            for _ in range(12):
                Simple.objects.create()
        self.assertTrue(recording.all)

    def test_values_of_every_kind_come_back_as_they_were(self):
        for values in ({"slug": "ü'\"\\"}, {"slug": "x" * 150, "price": -1}):
            ice_cream = shop.IceCream.objects.create(**values)
            old = again.touched(ice_cream, "default", was=True)
            ice_cream.delete()
            changed = selection.Selection()
            changed.touch(old)
            self.assertIsNone(again.ask(changed))
            self.assertIn(ice_cream.get_absolute_url(), changed.paths)
            self.assertEqual(set(changed.tags), {f"price-{ice_cream.price}"})

    def test_values_that_cannot_be_kept_break_no_invalidation(self):
        simple = Simple.objects.create(slug="a")
        with (
            mock.patch.object(Simple._meta.get_field("text"), "value_to_string", side_effect=AttributeError),
            assert_invalidates(["/simple/a/"]),
        ):
            simple.save()


class InTestCase(TestCase):
    def test_a_question_that_fails_after_the_change_does_not_break_the_transaction(self):
        """That of the test, in which there is no COMMIT."""

        def paths(odd):
            if odd.slug == "asked again":
                with connection.cursor() as cursor:
                    cursor.execute("SELECT nothing FROM nowhere")
            return [f"/odd/{odd.slug}/"]

        Odd.answer = staticmethod(paths)
        self.addCleanup(setattr, Odd, "answer", staticmethod(lambda _: []))
        odd = Odd.objects.create(slug="a")
        with self.assertLogs("everpage", "ERROR"), recorded() as recording:
            odd.save()
            Odd.objects.update(slug="asked again")
        self.assertEqual(recording.paths, {"/odd/a/"})
        self.assertEqual(Odd.objects.get().slug, "asked again")


class LateModels(Project):
    def make(self, name, base, **fields):
        made = type(name, (base,), {"__module__": "shop.models", **fields})
        with connection.schema_editor() as editor:
            editor.create_model(made)
        self.addCleanup(self.forget, made)
        return made

    def test_a_model_that_is_made_later_counts_at_once(self):
        late = self.make("LateArticle", shop.Page)
        with assert_invalidates(["/latearticle/a/"]):
            late.objects.create(slug="a")
        linked = self.make("LateLinked", models.Model, topics=models.ManyToManyField(shop.Topic, related_name="+"))
        topic = shop.Topic.objects.create(slug="t")
        with assert_invalidates(["/topic/t/"]):
            linked.objects.create().topics.add(topic)
        self.assertTrue(pre_delete.has_listeners(late))
        self.assertTrue(m2m_changed.has_listeners(linked.topics.through))

    def forget(self, model):
        from django.apps import apps

        with connection.schema_editor() as editor:
            editor.delete_model(model)
        models_of_app = apps.all_models["shop"]
        for name in [name for name in models_of_app if name.startswith(model._meta.model_name)]:
            del models_of_app[name]
        apps.clear_cache()
        site.changed()

    def test_the_models_of_migrations_cost_nothing(self):
        from django.apps import apps

        called = []
        site.listeners.append(lambda: called.append(1))
        self.addCleanup(site.listeners.pop)
        state = ProjectState.from_apps(apps)
        self.assertTrue(state.apps.get_model("shop", "Simple"))
        self.assertEqual(called, [])
        self.assertFalse(post_save.has_listeners(Plain))
