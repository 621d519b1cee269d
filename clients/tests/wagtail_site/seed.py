"""One home page at /, one editor: run once by the tests, after migrate."""

import django

django.setup()

from django.contrib.auth.models import User
from pages.models import TextPage
from wagtail.models import Page, Site

User.objects.create_superuser("editor", "editor@localhost", "secret")
root = Page.get_first_root_node()
root.get_children().delete()
root = Page.get_first_root_node()
home = root.add_child(instance=TextPage(title="Home", slug="home"))
Site.objects.all().delete()
Site.objects.create(hostname="localhost", root_page=home, is_default_site=True)
