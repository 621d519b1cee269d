from django.contrib import messages
from django.shortcuts import get_object_or_404, redirect, render

from .forms import SuggestionForm
from .models import IceCream, Size


def menu(request):
    return render(request, "icecream/menu.html", {"ice_creams": IceCream.objects.all()})


def ice_cream(request, slug):
    found = get_object_or_404(IceCream, slug=slug)
    prices = [(size, found.price + size.surcharge) for size in found.sizes.all()]
    return render(request, "icecream/ice_cream.html", {"ice_cream": found, "prices": prices})


def size(request, slug):
    return render(request, "icecream/size.html", {"size": get_object_or_404(Size, slug=slug)})


def about(request):
    return render(request, "icecream/about.html")


def suggest(request):
    """A form: its CSRF token is a visitor's own, so everpage does not keep the page (Set-Cookie)."""
    form = SuggestionForm(request.POST or None)
    if form.is_valid():
        suggestion = form.save()
        messages.success(request, f"Thank you! We will think about {suggestion.flavor}.")
        return redirect("menu")
    return render(request, "icecream/suggest.html", {"form": form})
