"""Models that say in every way which pages show them."""

import uuid

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.urls import reverse_lazy

import django_everpage as dumper  # as a project does that comes from django-dumper


class Sluggish(models.Model):
    slug = models.CharField(max_length=200, default="slug")

    class Meta:
        abstract = True

    def get_absolute_url(self):
        return f"/{self._meta.model_name}/{self.slug}/"


class Simple(Sluggish):
    text = models.CharField(max_length=200, default="")

    def dependent_paths(self):
        yield self.get_absolute_url()
        for related in self.related_set.all():
            yield related.get_absolute_url()


class Related(Sluggish):
    related = models.ManyToManyField(Simple, related_name="related_set")

    def dependent_paths(self):
        yield self.get_absolute_url()
        for simple in self.related.all():
            yield simple.get_absolute_url()


class Note(Sluggish):
    """A generic relation: it belongs to any object."""

    content_type = models.ForeignKey(ContentType, on_delete=models.CASCADE)
    object_id = models.PositiveIntegerField()
    content_object = GenericForeignKey("content_type", "object_id")

    def dependent_paths(self):
        yield self.content_object.get_absolute_url()


class Noted(Sluggish):
    """Not registered: its page changes with its notes only."""

    notes = GenericRelation(Note)


class Size(Sluggish):
    """Asked for its ice creams, which yield themselves."""

    def dependent_paths(self):
        yield self.get_absolute_url()
        yield from self.ice_creams.all()


class Maker(Sluggish):
    """Not registered."""


class IceCream(Sluggish):
    name = models.CharField(max_length=200, default="")
    price = models.IntegerField(default=0)
    sizes = models.ManyToManyField(Size, related_name="ice_creams")
    maker = models.ForeignKey(Maker, null=True, on_delete=models.CASCADE)

    def dependent_paths(self):
        return [reverse_lazy("ice-creams"), self.get_absolute_url(), *(s.get_absolute_url() for s in self.sizes.all())]

    def dependent_tags(self):
        return [f"price-{self.price}"]


class Person(Sluggish):
    friends = models.ManyToManyField("self")

    def dependent_paths(self):
        yield self.get_absolute_url()
        for other in (*self.friends.all(), *self.clubs.all()):
            yield other.get_absolute_url()


class Club(Sluggish):
    members = models.ManyToManyField(Person, through="Membership", related_name="clubs")

    def dependent_paths(self):
        yield self.get_absolute_url()
        for member in self.members.all():
            yield member.get_absolute_url()


class Membership(models.Model):
    """A project's own table between; not registered."""

    club = models.ForeignKey(Club, on_delete=models.CASCADE)
    person = models.ForeignKey(Person, on_delete=models.CASCADE)
    role = models.CharField(max_length=20, default="")


class Topic(Sluggish):
    """Names its own page only; that it shows posts is known by the relation."""

    def dependent_paths(self):
        return [self.get_absolute_url()]


class Post(Sluggish):
    topics = models.ManyToManyField(Topic, related_name="posts")

    def dependent_paths(self):
        return [self.get_absolute_url()]


class Genre(Sluggish):
    """Not registered, and its page shows no book; only the other end of its relation is."""


class Book(Sluggish):
    genres = models.ManyToManyField(Genre, related_name="books")

    def dependent_paths(self):
        return [self.get_absolute_url()]


class Place(Sluggish):
    def dependent_paths(self):
        return [f"/place/{self.slug}/"]


class Restaurant(Place):
    stars = models.IntegerField(default=0)

    def dependent_paths(self):
        return [f"/restaurant/{self.slug}/"]


class Landmark(Place):
    class Meta:
        proxy = True

    def dependent_paths(self):
        return [f"/landmark/{self.slug}/"]


@dumper.register
class Venue(Sluggish):
    """Has no proxy."""

    def dependent_paths(self):
        return [f"/venue/{self.slug}/"]


class Bar(Venue):
    """Not registered itself."""


@dumper.register
class Page(Sluggish):
    """Abstract: stands for all that inherit from it."""

    class Meta:
        abstract = True

    def dependent_paths(self):
        return [self.get_absolute_url()]


class Article(Page):
    pass


class Brewer(Sluggish):
    """Knows its beers; their pages show its name."""

    def dependent_paths(self):
        yield self.get_absolute_url()
        for beer in self.beers.all():
            yield beer.get_absolute_url()


class Hop(Sluggish):
    def dependent_paths(self):
        yield self.get_absolute_url()
        yield from self.beers.all().iterator()


class Beer(Sluggish):
    brewer = models.ForeignKey(Brewer, null=True, on_delete=models.CASCADE, related_name="beers")
    hops = models.ManyToManyField(Hop, related_name="beers")

    def dependent_paths(self):
        yield self.get_absolute_url()
        if self.brewer:
            yield self.brewer.get_absolute_url()
        for hop in self.hops.all():
            yield hop.get_absolute_url()


class Ticket(Sluggish):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)

    def dependent_paths(self):
        return [self.get_absolute_url()]


if hasattr(models, "GeneratedField"):

    class Computed(models.Model):
        """Its address is made by the database."""

        name = models.CharField(max_length=20)
        slug = models.GeneratedField(
            expression=models.functions.Lower("name"), output_field=models.CharField(max_length=20), db_persist=True
        )

        def dependent_paths(self):
            return [f"/computed/{self.slug}/"]

    dumper.register(Computed)


class Odd(Sluggish):
    """Tests give it an answer."""

    answer = staticmethod(lambda _odd: [])

    def dependent_paths(self):
        return type(self).answer(self)


class Plain(Sluggish):
    """Not registered at all, and linked to nothing."""


for model in (Simple, Related, Note, Size, IceCream, Person, Club, Topic, Post, Book, Place, Restaurant, Landmark, Odd):
    dumper.register(model)
for model in (Brewer, Hop, Beer, Ticket):
    dumper.register(model)
