"""What django-dumper does, seen by a visitor: old page, hit, change, new page."""

from django.db import models, transaction

import django_everpage
from shop.models import (
    Article,
    Book,
    Club,
    Genre,
    IceCream,
    Maker,
    Membership,
    Note,
    Noted,
    Person,
    Post,
    Related,
    Simple,
    Size,
    Topic,
)
from support.proxy import ProxyTestCase


class Behaviours(ProxyTestCase):
    def test_a_saved_object_renews_its_page(self):
        simple = Simple.objects.create(text="old")
        old = self.visit("/simple/slug/")
        simple.text = "new"
        simple.save()
        self.assert_new("/simple/slug/", old)
        self.visit("/simple/slug/")

    def test_an_unchanged_page_is_kept_when_another_object_is_saved(self):
        Simple.objects.create(slug="a")
        other = Simple.objects.create(slug="b")
        self.visit("/simple/a/")
        other.save()
        self.assert_kept("/simple/a/")

    def test_a_deleted_object_takes_its_page_along(self):
        simple = Simple.objects.create()
        self.visit("/simple/slug/")
        simple.delete()
        self.assertEqual(self.proxy.get("/simple/slug/").status, 404)

    def test_a_queryset_that_is_deleted_takes_all_pages_along(self):
        for slug in "ab":
            Simple.objects.create(slug=slug)
            self.visit(f"/simple/{slug}/")
        Simple.objects.all().delete()
        for slug in "ab":
            self.assertEqual(self.proxy.get(f"/simple/{slug}/").status, 404)

    def test_a_moved_object_renews_the_old_address_and_the_new(self):
        Simple.objects.create(slug="b", text="was here before")
        simple = Simple.objects.create(slug="a")
        self.visit("/simple/a/")
        there = self.visit("/simple/b/")
        simple.slug = "b"
        simple.save()
        self.assertEqual(self.proxy.get("/simple/a/").status, 404)
        self.assert_new("/simple/b/", there)

    def test_an_object_that_does_not_know_where_it_has_been_moved_to(self):
        related = Related.objects.create(slug="r")
        for name, change in {
            "m2m": lambda simple: simple.related_set.add(related),
            "delete": lambda simple: simple.delete(),
        }.items():
            with self.subTest(name):
                Simple.objects.all().delete()
                simple = Simple.objects.create(slug="a")
                Simple.objects.update(slug="b")
                old = self.visit("/simple/b/")
                change(simple)
                self.assert_new("/simple/b/", old)

    def test_every_change_of_a_relation_renews_both_ends(self):
        topic, other = Topic.objects.create(slug="t"), Topic.objects.create(slug="o")
        post = Post.objects.create(slug="p")
        changes = {
            "add": lambda: post.topics.add(topic),
            "remove": lambda: post.topics.remove(topic),
            "set": lambda: post.topics.set([topic]),
            "set to another": lambda: post.topics.set([other]),
            "set to both": lambda: post.topics.set([topic, other]),
            "clear": lambda: post.topics.clear(),
            "add from the other end": lambda: topic.posts.add(post),
            "remove from the other end": lambda: topic.posts.remove(post),
            "set from the other end": lambda: topic.posts.set([post]),
            "clear from the other end": lambda: topic.posts.clear(),
            "create": lambda: topic.posts.create(slug="p"),
            "set and clear": lambda: post.topics.set([topic], clear=True),
            "delete": lambda: topic.delete() and Topic.objects.create(slug="t"),
        }
        for name, change in changes.items():
            with self.subTest(name):
                pages = {path: self.visit(path) for path in ("/post/p/", "/topic/t/")}
                change()
                for path, old in pages.items():
                    self.assert_new(path, old)

    def test_saving_and_deleting_a_related_object_renews_the_page_that_shows_it(self):
        related = Related.objects.create(slug="r")
        simple = Simple.objects.create(slug="s")
        related.related.add(simple)
        old = self.visit("/related/r/")
        simple.slug = "t"
        simple.save()
        self.assert_new("/related/r/", old)
        old = self.visit("/related/r/")
        simple.delete()
        self.assert_new("/related/r/", old)

    def test_generic_relations(self):
        noted = Noted.objects.create(slug="n")
        old = self.visit("/noted/n/")
        note = Note.objects.create(slug="first", content_object=noted)
        self.assert_new("/noted/n/", old)
        old = self.visit("/noted/n/")
        note.slug = "second"
        note.save()
        self.assert_new("/noted/n/", old)
        old = self.visit("/noted/n/")
        note.delete()
        self.assert_new("/noted/n/", old)

    def test_a_generic_relation_that_moves_renews_both_owners(self):
        first, second = Noted.objects.create(slug="1"), Noted.objects.create(slug="2")
        note = Note.objects.create(content_object=first)
        pages = {path: self.visit(path) for path in ("/noted/1/", "/noted/2/")}
        note.content_object = second
        note.save()
        for path, old in pages.items():
            self.assert_new(path, old)

    def test_cascades(self):
        maker = Maker.objects.create()
        IceCream.objects.create(slug="v", maker=maker)
        self.visit("/icecream/v/")
        old = self.visit("/icecream/")
        maker.delete()
        self.assertEqual(self.proxy.get("/icecream/v/").status, 404)
        self.assert_new("/icecream/", old)

    def test_an_object_among_the_paths_stands_for_its_own(self):
        ice_cream, size = IceCream.objects.create(slug="v"), Size.objects.create(slug="large")
        ice_cream.sizes.add(size)
        old = self.visit("/icecream/v/")
        size.slug = "huge"
        size.save()
        self.assert_new("/icecream/v/", old)

    def test_a_relation_of_a_model_with_itself(self):
        ann, bob = Person.objects.create(slug="ann"), Person.objects.create(slug="bob")
        for name, change in {
            "add": lambda: ann.friends.add(bob),
            "remove": lambda: bob.friends.remove(ann),
            "set": lambda: bob.friends.set([ann]),
            "clear": lambda: ann.friends.clear(),
        }.items():
            with self.subTest(name):
                pages = {path: self.visit(path) for path in ("/person/ann/", "/person/bob/")}
                change()
                for path, old in pages.items():
                    self.assert_new(path, old)

    def test_a_table_between_of_ones_own(self):
        club, ann, bob = (
            Club.objects.create(slug="c"),
            Person.objects.create(slug="ann"),
            Person.objects.create(slug="bob"),
        )
        paths = ["/club/c/", "/person/ann/"]
        pages = {path: self.visit(path) for path in paths}
        membership = Membership.objects.create(club=club, person=ann)
        for path in paths:
            self.assert_new(path, pages[path])
        paths.append("/person/bob/")
        pages = {path: self.visit(path) for path in paths}
        membership.person = bob
        membership.save()
        for path in paths:
            self.assert_new(path, pages[path])
        pages = {path: self.visit(path) for path in ("/club/c/", "/person/bob/")}
        membership.delete()
        for path, old in pages.items():
            self.assert_new(path, old)

    def test_deleting_the_end_of_a_relation_that_is_not_registered(self):
        book, genre = Book.objects.create(slug="b"), Genre.objects.create(slug="g")
        book.genres.add(genre)
        old = self.visit("/book/b/")
        genre.delete()
        self.assert_new("/book/b/", old)

    def test_an_abstract_model_stands_for_its_children(self):
        article = Article.objects.create(slug="a")
        old = self.visit("/article/a/")
        article.slug = "b"
        article.save()
        self.assertEqual(self.proxy.get("/article/a/").status, 404)
        self.assertNotEqual(self.visit("/article/b/"), old)

    def test_ignored_paths_are_never_kept_and_do_no_harm(self):
        self.assertEqual(self.proxy.get("/admin/login/").outcome, "fwd=bypass; detail=ignored")
        django_everpage.invalidate(["/admin/login/"])
        self.assertEqual(self.proxy.get("/admin/login/").outcome, "fwd=bypass; detail=ignored")

    def test_bulk_changes_by_hand(self):
        Simple.objects.bulk_create([Simple(slug="a"), Simple(slug="b")])
        pages = {path: self.visit(path) for path in ("/simple/a/", "/simple/b/")}
        Simple.objects.update(text="new")
        for path in pages:
            self.assert_kept(path)
        django_everpage.invalidate_objects(Simple.objects.all())
        for path, old in pages.items():
            self.assert_new(path, old)

    def test_prefixes_tags_and_everything(self):
        Simple.objects.create(slug="a")
        for selector in (
            {"prefixes": ["/simple"]},
            {"all": True},
            {"paths": [f"http://{self.proxy.public}/simple/a/"]},
        ):
            with self.subTest(selector):
                self.visit("/simple/a/")
                django_everpage.invalidate(**selector)
                self.assertFalse(self.proxy.get("/simple/a/").is_hit)

    def test_an_expression_is_read_back_before_the_object_is_asked(self):
        ice_cream = IceCream.objects.create(slug="v", name="x")
        old = self.visit("/icecream/v/")
        ice_cream.slug = models.functions.Concat("slug", models.Value("w"))
        ice_cream.save()
        self.assertEqual(self.proxy.get("/icecream/v/").status, 404)
        self.assertNotEqual(self.visit("/icecream/vw/"), old)

    def test_one_post_for_a_transaction(self):
        before = self.proxy.sequence()
        with transaction.atomic():
            for number in range(20):
                with transaction.atomic():
                    Simple.objects.create(slug=str(number)).save()
        self.assertEqual(self.proxy.sequence(), before + 1)
