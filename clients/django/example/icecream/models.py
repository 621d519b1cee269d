"""What the shop sells, and which pages show it."""

from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.urls import reverse

import django_everpage as everpage


@everpage.register
class Size(models.Model):
    name = models.CharField(max_length=40)
    slug = models.SlugField(unique=True)
    scoops = models.PositiveSmallIntegerField(validators=[MinValueValidator(1)])
    surcharge = models.DecimalField(max_digits=5, decimal_places=2, default=0, validators=[MinValueValidator(0)])

    class Meta:
        ordering = ["scoops", "name"]

    def __str__(self):
        return self.name

    def get_absolute_url(self):
        return reverse("size", args=[self.slug])

    def dependent_paths(self):
        """Its own page, and the pages of all that is sold in it."""
        yield self.get_absolute_url()
        for ice_cream in self.ice_creams.all():
            yield ice_cream.get_absolute_url()


@everpage.register
class IceCream(models.Model):
    name = models.CharField(max_length=80)
    slug = models.SlugField(unique=True)
    description = models.TextField(blank=True)
    price = models.DecimalField(max_digits=5, decimal_places=2, validators=[MinValueValidator(0)])
    color = models.CharField(max_length=7, default="#fff3d6", validators=[RegexValidator("^#[0-9a-fA-F]{6}$")])
    sold_out = models.BooleanField(default=False)
    sizes = models.ManyToManyField(Size, related_name="ice_creams", blank=True)

    class Meta:
        ordering = ["name"]
        verbose_name = "ice cream"

    def __str__(self):
        return self.name

    def get_absolute_url(self):
        return reverse("ice-cream", args=[self.slug])

    def dependent_paths(self):
        """The menu, its own page, and the page of each size that it comes in."""
        yield reverse("menu")
        yield self.get_absolute_url()
        for size in self.sizes.all():
            yield size.get_absolute_url()


class Suggestion(models.Model):
    """What visitors wish for. No page shows it, so no page depends on it."""

    flavor = models.CharField(max_length=80)
    made_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-made_at"]

    def __str__(self):
        return self.flavor
