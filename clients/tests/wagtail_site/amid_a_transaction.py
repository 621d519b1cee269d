"""Unpublishes a page in a transaction that goes on until a visitor has come by; prints what he got.

python amid_a_transaction.py SLUG URL
"""

import sys
import urllib.request

import django

django.setup()

from django.db import transaction
from pages.models import TextPage

slug, url = sys.argv[1:]
with transaction.atomic():
    TextPage.objects.get(slug=slug).unpublish()
    with urllib.request.urlopen(url, timeout=30) as answer:
        print(answer.status)
