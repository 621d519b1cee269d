"""What do the settings say? `EVERPAGE` in the project's settings, read here and nowhere else.

This module never connects to anything. `problems` is what `manage.py check` shows.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

DEFAULTS: Mapping[str, Any] = {
    "ENABLED": True,  # False: the hooks do nothing, and nothing is sent.
    "URL": None,  # The admin listener, or a list: the next is asked when one is down. None: EVERPAGE_ADMIN_URL.
    "TOKEN": None,  # `admin.token` of the proxy. None: EVERPAGE_TOKEN.
    "TIMEOUT": 5,  # Seconds that one POST may take, all URLs together.
    "OUTBOX": False,  # Write what is invalidated in the same transaction: survives a crash of app and proxy.
    "STRICT": False,  # Raise what is only logged otherwise.
    "FIXTURES": False,  # Invalidate what loaddata loads, too.
    "SENDER": None,  # Dotted path of a function that takes the body of the POST: for Celery and django.tasks.
}
DEFAULT_URL = "http://127.0.0.1:8081"
LONGEST_TIMEOUT = 60  # A request of a visitor waits for it.
FLAGS = ("ENABLED", "OUTBOX", "STRICT", "FIXTURES")


@dataclass(frozen=True)
class Config:
    """`EVERPAGE`, complete and valid."""

    enabled: bool
    urls: tuple[str, ...]
    token: str = field(repr=False)
    timeout_seconds: float
    outbox: bool
    strict: bool
    fixtures: bool
    sender: str | None


class Problem(NamedTuple):
    """A mistake in the settings: `id` as system checks have it."""

    id: str
    message: str
    hint: str


@cache
def get() -> Config:
    """The settings; `ImproperlyConfigured` with the first mistake."""
    for problem in problems():
        raise ImproperlyConfigured(f"{problem.message} {problem.hint} ({problem.id})")
    given = {**DEFAULTS, **(getattr(settings, "EVERPAGE", None) or {})}
    return Config(
        enabled=given["ENABLED"],
        urls=tuple(url.rstrip("/") for url in _urls(given)),
        token=_token(given),
        timeout_seconds=float(given["TIMEOUT"]),
        outbox=given["OUTBOX"],
        strict=given["STRICT"],
        fixtures=given["FIXTURES"],
        sender=given["SENDER"] or None,
    )


def wants_outbox() -> bool:
    """OUTBOX, also where other settings are wrong: the app must start, so that the checks can tell."""
    raw = getattr(settings, "EVERPAGE", None)
    return isinstance(raw, Mapping) and raw.get("OUTBOX") is True


def problems() -> Iterator[Problem]:
    """Every mistake in `EVERPAGE`."""
    raw = getattr(settings, "EVERPAGE", None) or {}
    if not isinstance(raw, Mapping):
        # Its type only: a comma too many makes a tuple of it, with the token inside.
        hint = 'Give a dict, without a comma after it: EVERPAGE = {"URL": "..."}.'
        yield Problem("everpage.E001", f"EVERPAGE is a {type(raw).__name__}.", hint)
        return
    for key in raw:
        if key not in DEFAULTS:
            close = difflib.get_close_matches(str(key).upper(), DEFAULTS, 1)
            known = f"Did you mean {close[0]!r}?" if close else f"Known are {', '.join(DEFAULTS)}."
            yield Problem("everpage.E002", f"EVERPAGE has the unknown key {key!r}.", known)
    given = {**DEFAULTS, **raw}
    yield from _url_problems(given)
    token = given["TOKEN"]
    if token is not None and not (isinstance(token, str) and token.isascii() and token.isprintable()):
        hint = "Give the text of the proxy's admin.token."
        yield Problem("everpage.E004", "EVERPAGE['TOKEN'] is not a string of printable ASCII.", hint)
    timeout = given["TIMEOUT"]
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= LONGEST_TIMEOUT:
        hint = f"Give seconds, more than 0 and at most {LONGEST_TIMEOUT}."
        yield Problem("everpage.E005", f"EVERPAGE['TIMEOUT'] is {timeout!r}.", hint)
    for key in FLAGS:
        if not isinstance(given[key], bool):
            yield Problem("everpage.E006", f"EVERPAGE[{key!r}] is {given[key]!r}.", "Give True or False.")
    sender = given["SENDER"]
    if sender is not None and not (isinstance(sender, str) and "." in sender):
        hint = 'Give the dotted path of a function, such as "shop.tasks.send_invalidation".'
        yield Problem("everpage.E007", f"EVERPAGE['SENDER'] is {sender!r}.", hint)


def _url_problems(given: Mapping[str, Any]) -> Iterator[Problem]:
    hint = f'Give the address of the proxy\'s admin listener, "{DEFAULT_URL}", or a list of such.'
    urls = _urls(given)
    if not isinstance(urls, list | tuple) or not urls:
        yield Problem("everpage.E003", f"EVERPAGE['URL'] is {_shown(given['URL'])}.", hint)
        return
    for url in urls:
        if isinstance(url, str) and "@" in url:
            # It would stand in every log line.
            message = "EVERPAGE['URL'] has a user name or password in it."
            yield Problem("everpage.E003", message, "Give a token instead, in EVERPAGE['TOKEN'] or EVERPAGE_TOKEN.")
        elif not _is_http_url(url):
            yield Problem("everpage.E003", f"EVERPAGE['URL'] has {_shown(url)}.", hint)


def _shown(url: object) -> str:
    """Without what may be a secret."""
    if isinstance(url, str):
        return repr(url.partition("?")[0])
    return repr(url) if url is None or url in ([], ()) else f"a {type(url).__name__}"


def _is_http_url(url: object) -> bool:
    if not isinstance(url, str) or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        _ = parts.port  # ValueError if it is no number
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)


def _urls(given: Mapping[str, Any]) -> Any:
    url = given["URL"]
    if url is None:
        url = os.environ.get("EVERPAGE_ADMIN_URL") or DEFAULT_URL
    return [url] if isinstance(url, str) else url


def _token(given: Mapping[str, Any]) -> str:
    token = given["TOKEN"]
    return str(os.environ.get("EVERPAGE_TOKEN", "").strip() if token is None else token)


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "EVERPAGE":
        get.cache_clear()


setting_changed.connect(_forget, dispatch_uid="everpage.conf")
