"""One request to the proxy's admin listener, with the standard library and without surprises from proxy variables.

This module never retries: it asks each URL once, within one deadline. A SENDER of one's own calls `send` in its task.
"""

from __future__ import annotations

import json
import logging
import ssl
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from django_everpage import conf

logger = logging.getLogger("everpage")

# An answer names at most the paths that were sent, twice.
LONGEST_ANSWER = 32 * 1024 * 1024
# The proxy will never take such a body, whoever sends it.
REJECTED = (400, 413)
KINDS = ("paths", "prefixes", "tags")


class EverpageError(Exception):
    """The proxy has not answered 200: nothing is promised. May be sent again."""

    def __init__(self, message: str, *, status: int | None = None, timed_out: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.timed_out = timed_out


class Rejected(EverpageError):
    """The proxy says that this body is wrong; nothing was done, and sending it again is of no use."""


def post(body: Mapping[str, Any]) -> Any:
    """`POST /invalidate`; the answer. `Rejected` means that nothing of it was done, for one wrong name among many."""
    return _ask_in_turn(conf.get().urls, "POST", "/invalidate", body)


def send(body: Mapping[str, Any], post: Callable[[Mapping[str, Any]], Any] = post) -> None:
    """`post`, and where the proxy rejects that its halves: a name that is wrong is logged, all others are invalidated.

    EverpageError if it may work later: call it again with the same body. Never Rejected, and never the SENDER.
    """
    try:
        answer = post(body)
    except Rejected as error:
        halves = _halves(body)
        if not halves:
            logger.error("everpage rejects this, nothing was invalidated: %s. It was sent %s", error, dict(body))
        for half in halves:
            send(half, post)
        return
    logger.debug("everpage was told: %s %s", body, answer)


def get(path: str, *, url: str | None = None) -> Any:
    """`GET` of one of the admin resources: "/status", "/pages?prefix=/blog"; of the node `url` only, if given."""
    return _ask_in_turn((url,) if url else conf.get().urls, "GET", path)


def _ask_in_turn(urls: Sequence[str], method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """Asks one URL after the other until one answers 200; `EverpageError` tells of the last, `Rejected` ends it."""
    config = conf.get()
    content = None if body is None else json.dumps(body).encode()
    deadline = time.monotonic() + config.timeout_seconds
    failed: EverpageError | None = None
    for number, url in enumerate(urls):
        # A silent node must leave time for those after it.
        share = (deadline - time.monotonic()) / (len(urls) - number)
        if share <= 0:
            break
        try:
            return _ask(url, config.token, method, path, content, share)
        except Rejected:
            raise
        except EverpageError as error:
            failed = error
    raise failed or EverpageError("no time was left", timed_out=True)


def _ask(url: str, token: str, method: str, path: str, content: bytes | None, seconds: float) -> Any:  # noqa: PLR0913
    parts = urlsplit(url)
    host = parts.hostname or ""
    deadline = time.monotonic() + seconds
    if parts.scheme == "https":
        connection: HTTPConnection = HTTPSConnection(
            host, parts.port, timeout=seconds, context=ssl.create_default_context()
        )
    else:
        connection = HTTPConnection(host, parts.port, timeout=seconds)
    headers = {"Content-Type": "application/json", "Connection": "close"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection.connect()
        connection.sock.settimeout(max(0.001, deadline - time.monotonic()))
        connection.request(method, parts.path + path, content, headers)
        response = connection.getresponse()
        answer = response.read(LONGEST_ANSWER)
    except TimeoutError as error:
        raise EverpageError(f"{url} did not answer within {seconds:g} s", timed_out=True) from error
    except (OSError, HTTPException) as error:
        raise EverpageError(f"{url} cannot be asked: {error or type(error).__name__}") from error
    finally:
        connection.close()
    return _understood(url, response.status, answer)


def _understood(url: str, status: int, answer: bytes) -> Any:
    try:
        value = json.loads(answer)
    except ValueError:
        value = None
    if status == 200 and value is not None:
        return value
    says = value if isinstance(value, dict) and "error" in value else None
    detail = f"{says['error']}: {says.get('detail', '')}" if says else "not an answer of everpage's admin listener"
    if says and status in REJECTED:
        raise Rejected(f"{url} rejects it: {detail}", status=status)
    raise EverpageError(f"{url} answered {status}: {detail}", status=status)


def _halves(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Two bodies that say the same together, with ids made of its own; none if it names one thing."""
    names = [(kind, name) for kind in KINDS for name in body.get(kind, ())]
    if len(names) < 2:
        return []
    id_ = uuid.uuid5(uuid.NAMESPACE_OID, str(body.get("id") or uuid.uuid4()))
    halves = []
    for number, half in enumerate((names[: len(names) // 2], names[len(names) // 2 :])):
        part: dict[str, Any] = {key: value for key, value in body.items() if key not in KINDS}
        for kind, name in half:
            part.setdefault(kind, []).append(name)
        halves.append({**part, "id": str(uuid.uuid5(id_, str(number)))})
    return halves
