"""A run of random changes, with a checker that compares every page with a fresh render after each.

DJ_SEED and DJ_STEPS repeat or prolong it.
"""

import os
import random

from django.db import transaction
from django.test import Client

import django_everpage
from shop.models import Club, IceCream, Membership, Note, Noted, Person, Place, Related, Restaurant, Simple, Size
from support.proxy import ProxyTestCase

STEPS = int(os.environ.get("DJ_STEPS", "100"))
# Relations are what is hard, so they come more often.
CHANGES = ["_create", "_save", "_save", "_delete", "_link", "_link", "_link", "_link", "_undone", "_several", "_bulk"]
# Few, so that objects move to where others were.
SLUGS = ("a", "b", "c")
MODELS = ("simple", "related", "noted", "size", "icecream", "person", "club", "place", "restaurant", "landmark")
PATHS = ["/icecream/", *(f"/{model}/{slug}/" for model in MODELS for slug in SLUGS)]


class Undo(Exception):
    pass


class RandomRun(ProxyTestCase):
    def test_every_page_is_as_a_fresh_render_after_every_change(self):
        seed = int(os.environ.get("DJ_SEED", random.randrange(1_000_000)))
        self.random = random.Random(seed)
        history = []
        hits = 0
        for step in range(STEPS):
            history.append(self.change())
            for path in PATHS:
                page, fresh = self.proxy.get(path), Client().get(path)
                hits += page.is_hit
                same = (page.status, page.text if page.status == 200 else "") == (
                    fresh.status_code,
                    fresh.content.decode() if fresh.status_code == 200 else "",
                )
                recent = "; ".join(history[-5:])
                self.assertTrue(same, f"seed {seed}, step {step}: {path} is {page}, not {fresh.content}: {recent}")
        # The cache was in play all the time.
        self.assertGreater(hits, STEPS * 3)

    def change(self):
        name = self.random.choice(CHANGES)
        return f"{name} {getattr(self, name)()}"

    def _any(self, model):
        found = list(model.objects.order_by("pk"))
        return self.random.choice(found) if found else None

    def _create(self):
        model = self.random.choice([Simple, Related, Noted, Size, IceCream, Person, Club, Place, Restaurant, Note])
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
        instance = self._any(
            self.random.choice([Simple, Related, Size, IceCream, Person, Club, Place, Restaurant, Note])
        )
        if instance is None:
            return None
        instance.slug = self.random.choice(SLUGS)
        if isinstance(instance, Simple | IceCream):
            setattr(instance, "text" if isinstance(instance, Simple) else "name", str(self.random.random()))
        if isinstance(instance, Note) and (owner := self._any(Noted)):
            instance.content_object = owner
        instance.save(update_fields=["slug"] if self.random.random() < 0.3 and not isinstance(instance, Note) else None)
        return f"{instance!r} to {instance.slug}"

    def _delete(self):
        model = self.random.choice([Simple, Related, Size, IceCream, Person, Club, Place, Restaurant, Note])
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
        near, far, name = self.random.choice(
            [
                (Related, Simple, "related"),
                (Simple, Related, "related_set"),
                (IceCream, Size, "sizes"),
                (Size, IceCream, "ice_creams"),
                (Person, Person, "friends"),
                (Club, Person, "members"),
                (Person, Club, "clubs"),
            ]
        )
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
