"""What is on the menu on the first day."""

from django.db import migrations

SIZES = [
    ("Cone", "cone", 1, "0.00"),
    ("Cup", "cup", 2, "1.60"),
    ("Family tub", "family-tub", 6, "7.50"),
]
ICE_CREAMS = [
    ("Vanilla", "vanilla", "#fbeecb", "1.80", "Vanilla from Madagascar, cream from next door.", "cone cup family-tub"),
    ("Chocolate", "chocolate", "#7b4a2e", "1.90", "Seventy percent cocoa, and a pinch of salt.", "cone cup family-tub"),
    ("Strawberry", "strawberry", "#f4a6ad", "1.90", "More strawberry than ice.", "cone cup"),
    ("Pistachio", "pistachio", "#b9c98b", "2.40", "Roasted Sicilian pistachios. Green without any color.", "cone cup"),
    ("Lemon", "lemon", "#f7ef9a", "1.70", "A sorbet of lemons, water and sugar. Nothing else.", "cone"),
    ("Hazelnut", "hazelnut", "#c89f6d", "2.20", "From Piedmont, roasted in the morning.", "cone cup family-tub"),
]


def open_shop(apps, schema_editor):
    IceCream, Size = apps.get_model("icecream", "IceCream"), apps.get_model("icecream", "Size")
    sizes = {
        slug: Size.objects.create(name=name, slug=slug, scoops=scoops, surcharge=surcharge)
        for name, slug, scoops, surcharge in SIZES
    }
    for name, slug, color, price, description, comes_in in ICE_CREAMS:
        ice_cream = IceCream.objects.create(name=name, slug=slug, color=color, price=price, description=description)
        ice_cream.sizes.set(sizes[size] for size in comes_in.split())


class Migration(migrations.Migration):
    dependencies = [("icecream", "0001_initial")]
    operations = [migrations.RunPython(open_shop, migrations.RunPython.noop)]
