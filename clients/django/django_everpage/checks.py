"""What does `manage.py check` say of the settings and the registered models?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.utils.module_loading import import_string

from django_everpage import conf, site

LOOPBACK = ("localhost", "::1")


def check_settings(**_: Any) -> list[CheckMessage]:
    """E001 to E007 and W001 to W003."""
    found: list[CheckMessage] = [Error(message, hint, id=id) for id, message, hint in conf.problems()]
    if not found:
        found += _check_sender()
        found += _check_token()
    return [*found, *_check_middleware()]


def check_models(**_: Any) -> list[CheckMessage]:
    """E008: a registered model that says nothing."""
    return [
        Error(
            f"{model.__name__} is registered with everpage and has neither dependent_paths() nor dependent_tags().",
            "Add a method that returns the paths of the pages that show it, or unregister it.",
            obj=model,
            id="everpage.E008",
        )
        for model in site.registered()
        if not model._meta.abstract and not site.functions_of(model)
    ]


def _check_sender() -> Iterator[CheckMessage]:
    path = conf.get().sender
    if path is None:
        return
    try:
        sender = import_string(path)
    except ImportError as error:
        yield Error(f"EVERPAGE['SENDER'] cannot be imported: {error}.", "Correct the path.", id="everpage.E007")
        return
    if not callable(sender):
        yield Error(f"EVERPAGE['SENDER'] is {sender!r}.", "Name a function of one argument.", id="everpage.E007")


def _check_token() -> Iterator[CheckMessage]:
    config = conf.get()
    for url in config.urls:
        host = urlsplit(url).hostname or ""
        if not config.token and host not in LOOPBACK and not host.startswith("127."):
            hint = "The proxy demands one on any address but loopback: set EVERPAGE['TOKEN'] or EVERPAGE_TOKEN."
            yield Warning(f"{url} is to be asked without a token.", hint, id="everpage.W001")


def _check_middleware() -> Iterator[CheckMessage]:
    for name in getattr(settings, "MIDDLEWARE", None) or ():
        if name.startswith("dumper."):
            hint = "Remove it: its own cache is not invalidated any more, everpage caches before the app."
            yield Warning(f"{name} of django-dumper is still in MIDDLEWARE.", hint, id="everpage.W002")
    if getattr(settings, "DUMPER_PATH_IGNORE_REGEX", None):
        hint = "Move it to `cache.ignore` of the proxy's config.toml, and delete the setting."
        yield Warning("DUMPER_PATH_IGNORE_REGEX is not read any more.", hint, id="everpage.W003")
