"""Each page is what the database says now, as text."""

import threading

from django.db import transaction
from django.http import Http404, HttpResponse

from shop import models

# A render that the test holds up: after the database was read, before the answer.
slow_path = ""
has_read = threading.Event()
may_answer = threading.Event()

RELATIONS = [
    "related",
    "related_set",
    "sizes",
    "ice_creams",
    "friends",
    "members",
    "clubs",
    "genres",
    "notes",
    "topics",
    "posts",
    "hops",
    "beers",
]


def page(request, model, slug):
    text = _text(model, slug)
    if request.path == slow_path:
        has_read.set()
        may_answer.wait(30)
    return HttpResponse(text, content_type="text/plain")


def ice_creams(_request):
    return HttpResponse(" ".join(f"{i.slug}:{i.name}" for i in models.IceCream.objects.order_by("slug", "pk")))


@transaction.atomic
def save(request):
    """A save in a view, in the thread of the server."""
    simple = models.Simple.objects.get(slug=request.GET["slug"])
    simple.text = request.GET["text"]
    simple.save()
    return HttpResponse("saved")


async def asave(request):
    simple = await models.Simple.objects.aget(slug=request.GET["slug"])
    simple.text = request.GET["text"]
    await simple.asave()
    return HttpResponse("saved")


def _text(model, slug):
    found = {m._meta.model_name: m for m in vars(models).values() if isinstance(m, type) and hasattr(m, "objects")}
    if model not in found:
        raise Http404
    objects = found[model].objects.filter(slug=slug).order_by("pk")
    if not objects:
        raise Http404
    return "\n".join(_one(instance) for instance in objects)


def _one(instance):
    values = [f"{f.name}={f.value_from_object(instance)}" for f in instance._meta.concrete_fields]
    if getattr(instance, "brewer", None):
        values.append(f"brewer={instance.brewer.slug}")
    relations = [name for name in RELATIONS if hasattr(instance, name)]
    values += [f"{name}={sorted(other.slug for other in getattr(instance, name).all())}" for name in relations]
    return " ".join(values)
