"""A run of random changes, with a checker that compares every page with a fresh render after each.

DJ_SEED and DJ_STEPS repeat or prolong it.
"""

import os
import random
from contextlib import suppress

from django.db import IntegrityError, transaction
from django.test import Client, skipUnlessDBFeature

import django_everpage
from shop.models import (
    Beer,
    Brewer,
    Club,
    Hop,
    IceCream,
    Membership,
    Note,
    Noted,
    Person,
    Place,
    Related,
    Restaurant,
    Simple,
    Size,
)
from support.proxy import ProxyTestCase
from support.transactions import open_transaction, tried

STEPS = int(os.environ.get("DJ_STEPS", "100"))
# Relations are what is hard, so they come more often.
CHANGES = ["_create", "_save", "_save", "_delete", "_link", "_link", "_link", "_link", "_undone", "_several", "_bulk"]
# For two at once: _bulk does not lock the rows that it changes, and what is undone has little to do with others.
AT_ONCE = ["_create", "_save", "_save", "_save", "_delete", "_link", "_link", "_link", "_several"]
GROUPS = [[Simple, Related], [IceCream, Size], [Beer, Brewer, Hop], [Person, Club]]
# Few, so that objects move to where others were.
SLUGS = ("a", "b", "c")
MODELS = ("simple", "related", "noted", "size", "icecream", "person", "club", "place", "restaurant", "landmark")
MODELS += ("brewer", "beer", "hop")
OBJECTS = [Simple, Related, Size, IceCream, Person, Club, Place, Restaurant, Note, Brewer, Beer, Hop]
PATHS = ["/icecream/", *(f"/{model}/{slug}/" for model in MODELS for slug in SLUGS)]


class Undo(Exception):
    pass


class RandomRun(ProxyTestCase):
    def setUp(self):
        # The rows of the other test went unseen.
        django_everpage.invalidate(all=True)
        self.objects = [*OBJECTS, Noted]

    def test_every_page_is_as_a_fresh_render_after_every_change(self):
        seed = int(os.environ.get("DJ_SEED", random.randrange(1_000_000)))
        self.random = random.Random(seed)
        history = []
        hits = 0
        for step in range(STEPS):
            history.append(self.change())
            hits += self.compare(f"seed {seed}, step {step}: {'; '.join(history[-5:])}")
        # The cache was in play all the time.
        self.assertGreater(hits, STEPS * 3)

    def compare(self, when, paths=PATHS):
        """Each page with a fresh render; how many came from the cache."""
        hits = 0
        for path in paths:
            page, fresh = self.proxy.get(path), Client().get(path)
            hits += page.is_hit
            same = (page.status, page.text if page.status == 200 else "") == (
                fresh.status_code,
                fresh.content.decode() if fresh.status_code == 200 else "",
            )
            self.assertTrue(same, f"{when}: {path} is {page}, not {fresh.content}")
        return hits

    @skipUnlessDBFeature("has_select_for_update")
    def test_every_page_is_as_a_fresh_render_after_two_changes_at_once(self):
        seed = int(os.environ.get("DJ_SEED", random.randrange(1_000_000)))
        self.random = random.Random(seed)
        at_once = 0
        for step in range(2 * STEPS):
            # Few objects, all of one kind, so that the two have to do with each other.
            self.objects = GROUPS[step * len(GROUPS) // (2 * STEPS)]
            paths = [path for path in PATHS if path.split("/")[1] in {m._meta.model_name for m in self.objects}]
            while any(model.objects.count() < 2 for model in self.objects):
                self._create()
            # The database finds out at COMMIT only that what was linked is gone, and undoes the first.
            with suppress(IntegrityError), open_transaction(lambda: self.change(AT_ONCE)) as first:
                second = tried(lambda: self.change(AT_ONCE))
                at_once += second is not None
                # A visitor, between the two COMMITs.
                for path in paths:
                    self.proxy.get(path)
            self.compare(f"seed {seed}, step {step}: {first}, {second}", paths)
        # Few had to wait for each other.
        self.assertGreater(at_once, STEPS)

    def change(self, changes=CHANGES):
        name = self.random.choice(changes)
        return f"{name} {getattr(self, name)()}"

    def _model(self):
        return self.random.choice([model for model in self.objects if model is not Noted])

    def _any(self, model):
        found = list(model.objects.order_by("pk"))
        return self.random.choice(found) if found else None

    def _create(self):
        model = self.random.choice(self.objects)
        slug = self.random.choice(SLUGS)
        if model is Note:
            owner = self._any(Noted)
            if owner:
                Note.objects.create(slug=slug, content_object=owner)
        else:
            # Noted has no pages that depend on it but through its notes, so a new one is told by hand.
            instance = model.objects.create(slug=slug)
            if model is Noted:
                django_everpage.invalidate([instance.get_absolute_url()])
        return f"{model.__name__} {slug}"

    def _save(self):
        instance = self._any(self._model())
        if instance is None:
            return None
        instance.slug = self.random.choice(SLUGS)
        if isinstance(instance, Simple | IceCream):
            setattr(instance, "text" if isinstance(instance, Simple) else "name", str(self.random.random()))
        if isinstance(instance, Beer):
            instance.brewer = self._any(Brewer)
        if isinstance(instance, Note) and (owner := self._any(Noted)):
            instance.content_object = owner
        instance.save(update_fields=["slug"] if self.random.random() < 0.3 and not isinstance(instance, Note) else None)
        return f"{instance!r} to {instance.slug}"

    def _delete(self):
        model = self._model()
        instance = self._any(model)
        if instance is None:
            return None
        text = repr(instance)
        if self.random.random() < 0.2:
            model.objects.filter(slug=instance.slug).delete()
        else:
            instance.delete()
        return text

    def _link(self):
        links = [
            (Related, Simple, "related"),
            (Simple, Related, "related_set"),
            (IceCream, Size, "sizes"),
            (Size, IceCream, "ice_creams"),
            (Person, Person, "friends"),
            (Club, Person, "members"),
            (Person, Club, "clubs"),
            (Beer, Hop, "hops"),
            (Brewer, Beer, "beers"),
            (Brewer, Beer, "beers"),
        ]
        near, far, name = self.random.choice([link for link in links if link[0] in self.objects])
        instance, other = self._any(near), self._any(far)
        if not (instance and other):
            return None
        if name in ("members", "clubs") and self.random.random() < 0.5:
            club, person = (instance, other) if near is Club else (other, instance)
            membership = Membership.objects.filter(club=club).first() or Membership(club=club)
            membership.person = person
            membership.save()
            return f"{membership.pk} {person}"
        manager = getattr(instance, name)
        what = self.random.choice(["add", "remove", "set", "clear"])
        if what == "remove" and isinstance(other, Beer) and other.brewer != instance:
            what = "add"
        arguments = {"add": [other], "remove": [other], "set": [[other]], "clear": []}[what]
        getattr(manager, what)(*arguments)
        return f"{what} {instance!r}.{name} {other!r}"

    def _undone(self):
        text = ""
        try:
            with transaction.atomic():
                text = f"{self._save()} {self._link()}"
                raise Undo
        except Undo:
            return text

    def _several(self):
        with transaction.atomic():
            text = str(self._save())
            try:
                with transaction.atomic():
                    text += f", undone {self._delete()} {self._link()}"
                    raise Undo
            except Undo:
                pass
            with transaction.atomic():
                return f"{text}, {self._link()}, {self._create()}"

    def _bulk(self):
        simples = Simple.objects.filter(slug=self.random.choice(SLUGS))
        django_everpage.invalidate_objects(simples)
        slug = self.random.choice(SLUGS)
        pks = list(simples.values_list("pk", flat=True))
        simples.update(slug=slug)
        django_everpage.invalidate_objects(Simple.objects.filter(pk__in=pks))
        return f"{pks} to {slug}"
