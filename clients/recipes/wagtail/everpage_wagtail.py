"""Two improvements of Wagtail's front-end cache module, for everpage. Copy this file beside manage.py.

- Old addresses: Wagtail forgets them when a page is moved or its slug is changed (wagtail#2527). The app in this file
  purges them, those of all pages below included, by whatever backend is configured.

      INSTALLED_APPS += ["everpage_wagtail.OldAddresses"]

- After COMMIT, with retries: Wagtail purges amid the transaction when a page is deleted or ATOMIC_REQUESTS is on, so a
  visitor who comes in between brings the old page back, and it purges once, without a timeout. The backend in this file
  leaves all that to the package django-everpage.

      INSTALLED_APPS += ["django_everpage"]
      WAGTAILFRONTENDCACHE = {"everpage": {"BACKEND": "everpage_wagtail.EverpageBackend"}}
"""

import logging
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.db import transaction
from wagtail.contrib.frontend_cache.backends import BaseBackend
from wagtail.contrib.frontend_cache.utils import PurgeBatch
from wagtail.signals import page_slug_changed, post_page_move

logger = logging.getLogger("everpage")


class EverpageBackend(BaseBackend):
    """Invalidates by django-everpage: one POST after COMMIT, repeated until everpage has taken it."""

    def purge(self, url: str) -> None:
        self.purge_batch([url])

    def purge_batch(self, urls) -> None:
        from django_everpage import invalidate

        invalidate({path for url in urls if (path := _path_of(url))}, reason="Wagtail")


def _path_of(url: str) -> str | None:
    """The path alone, for every host: visitors may know the site by another name than Wagtail's settings."""
    from django_everpage.selection import checked_path

    try:
        return checked_path(urlsplit(url).path or "/")
    except ValueError as error:
        logger.error("not purged: %s", error)
        return None


class OldAddresses(AppConfig):
    name = "everpage_wagtail"

    def ready(self) -> None:
        page_slug_changed.connect(_slug_changed, dispatch_uid="everpage")
        post_page_move.connect(_moved, dispatch_uid="everpage")


def _slug_changed(instance, instance_before, **_) -> None:
    _purge_old_addresses(instance, instance_before.url_path, instance.url_path)


def _moved(instance, url_path_before: str, url_path_after: str, **_) -> None:
    if url_path_before != url_path_after:
        transaction.on_commit(lambda: _purge_old_addresses(instance, url_path_before, url_path_after))


def _purge_old_addresses(page, url_path_before: str, url_path_after: str) -> None:
    batch = PurgeBatch()
    for old in page.get_descendants(inclusive=True):
        old.url_path = url_path_before + old.url_path.removeprefix(url_path_after)
        batch.add_page(old)
    batch.purge()
