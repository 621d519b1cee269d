"""Two transactions change what one page shows: whatever the order of their COMMITs, nothing old stays."""

from django.test import skipUnlessDBFeature

from shop.models import Beer, Brewer, IceCream, Post, Size, Topic
from support.proxy import ProxyTestCase
from support.transactions import open_transaction, tried


def brew():
    return Beer.objects.create(slug="fresh", brewer=Brewer.objects.get())


@skipUnlessDBFeature("has_select_for_update")
class Overlapping(ProxyTestCase):
    """The first transaction asks; the second commits; a visitor comes; the first commits."""

    def overlap(self, first, second, *between):
        """What the pages of `between` were like when the visitor came."""
        with open_transaction(first):
            self.assertIsNotNone(tried(second), "the second had to wait: nothing is tested")
            return [self.visit(path) for path in between]

    def moved(self, model, slug, new):
        def move():
            instance = model.objects.get(slug=slug)
            instance.slug = new
            instance.save()
            return new

        return move

    def test_a_new_object_of_a_maker_that_is_being_renamed(self):
        Brewer.objects.create(slug="old-name")
        rename = self.moved(Brewer, "old-name", "new-name")
        (page,) = self.overlap(rename, brew, "/beer/fresh/")
        self.assertIn("brewer=old-name", page)
        self.assertIn("brewer=new-name", self.visit("/beer/fresh/"))

    def test_the_same_with_the_other_commit_last(self):
        Brewer.objects.create(slug="old-name")
        (page,) = self.overlap(brew, self.moved(Brewer, "old-name", "new-name"), "/brewer/new-name/")
        self.assertIn("beers=[]", page)
        self.assertIn("beers=['fresh']", self.visit("/brewer/new-name/"))

    def test_a_link_to_a_size_that_is_being_renamed(self):
        Size.objects.create(slug="small")
        ice_cream = IceCream.objects.create(slug="v")
        rename = self.moved(Size, "small", "tiny")
        (page,) = self.overlap(rename, lambda: ice_cream.sizes.add(Size.objects.get()), "/icecream/v/")
        self.assertIn("sizes=['small']", page)
        self.assertIn("sizes=['tiny']", self.visit("/icecream/v/"))

    def test_an_object_that_moves_away_from_a_maker_that_is_renamed(self):
        """Its old maker has an address that the first transaction has never seen."""
        for name, leave in {
            "moved": lambda beer: setattr(beer, "brewer", None) or beer.save(),
            "deleted": lambda beer: beer.delete(),
            "removed": lambda beer: beer.brewer.beers.remove(beer),
            "cleared": lambda beer: beer.brewer.beers.clear(),
        }.items():
            with self.subTest(name):
                Beer.objects.all().delete()
                Brewer.objects.all().delete()
                beer = Beer.objects.create(slug="b", brewer=Brewer.objects.create(slug="one"))
                # Its key stays, so a foreign key does not hold it up. A clear() locks the maker: then they follow.
                rename = self.moved(Brewer, "one", "two")
                with open_transaction(lambda leave=leave, beer=beer: leave(beer)):
                    waited = tried(rename) is None
                    page = "" if waited else self.visit("/brewer/two/")
                self.assertEqual(waited, name == "cleared")
                if not waited:
                    self.assertIn("beers=['b']", page)
                    self.assertIn("beers=[]", self.visit("/brewer/two/"))

    def test_links_that_are_taken_away_from_an_object_that_moves(self):
        for name, unlink in {
            "removed": lambda: Topic.objects.get().posts.remove(Post.objects.get()),
            "cleared": lambda: Topic.objects.get().posts.clear(),
            "set": lambda: Topic.objects.get().posts.set([]),
            "deleted": lambda: Topic.objects.get().delete(),
        }.items():
            with self.subTest(name):
                Post.objects.all().delete()
                Topic.objects.all().delete()
                Post.objects.create(slug="p").topics.add(Topic.objects.create(slug="t"))
                (page,) = self.overlap(unlink, self.moved(Post, "p", "q"), "/post/q/")
                self.assertIn("topics=['t']", page)
                self.assertIn("topics=[]", self.visit("/post/q/"))

    def test_nothing_can_be_linked_to_what_is_being_deleted_or_cleared(self):
        for name, unlink in {
            "cleared": lambda: Topic.objects.get().posts.clear(),
            "deleted": lambda: Topic.objects.get().delete(),
        }.items():
            with self.subTest(name):
                Post.objects.all().delete()
                Topic.objects.all().delete()
                Topic.objects.create(slug="t")
                post = Post.objects.create(slug="p")
                with open_transaction(unlink):
                    self.assertIsNone(tried(lambda post=post: post.topics.add(Topic.objects.get(slug="t"))))

    def test_two_that_link_in_opposite_order_do_not_lock_each_other_out(self):
        first, second = Post.objects.create(slug="1"), Post.objects.create(slug="2")
        one, two = Topic.objects.create(slug="1"), Topic.objects.create(slug="2")
        with open_transaction(lambda: first.topics.add(one)):
            self.assertIsNotNone(tried(lambda: [second.topics.add(two), first.topics.add(two)]))
            self.assertIsNotNone(tried(lambda: [first.topics.remove(two), second.topics.set([one])]))

    def test_a_maker_that_was_loaded_before_it_was_renamed(self):
        loaded = Brewer.objects.create(slug="old-name")
        self.moved(Brewer, "old-name", "new-name")()
        old = self.visit("/brewer/new-name/")
        Beer.objects.create(slug="late", brewer=loaded)
        self.assert_new("/brewer/new-name/", old)
