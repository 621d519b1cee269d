"""What is invalidated together? Paths, prefixes and tags, each once, in a bounded number."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.utils.functional import Promise

# More distinct names than this become "everything": a memory that cannot grow, and never too little. It is what the
# proxy takes in one request.
MOST_NAMES = 100_000
# Of one POST: a tenth of what the proxy takes in names, and less than half of it in bytes.
NAMES_OF_A_POST = 10_000
BYTES_OF_A_POST = 4 * 1024 * 1024
# The proxy takes 1024 bytes.
LONGEST_REASON = 250
# More changed objects than this become "everything": to ask them all again would take longer than to render anew.
MOST_TOUCHED = 20_000


class Touched(NamedTuple):
    """An object that was changed, to be asked again after COMMIT: see `again`."""

    alias: str
    model: str  # app_label.ModelName
    pk: str  # as the field's value_to_string() writes it
    was: str = ""  # JSON: the values before by attname, of short ones; empty: only as it is now


@dataclass
class Selection:
    """A set of selectors, and of objects that will name more; empty is false. Dicts keep the order of naming."""

    paths: dict[str, None] = field(default_factory=dict)
    prefixes: dict[str, None] = field(default_factory=dict)
    tags: dict[str, None] = field(default_factory=dict)
    touched: dict[Touched, None] = field(default_factory=dict)
    all: bool = False
    reason: str | None = None
    reasons: int = 0

    def __bool__(self) -> bool:
        return self.all or bool(self.paths or self.prefixes or self.tags or self.touched)

    def __len__(self) -> int:
        return len(self.paths) + len(self.prefixes) + len(self.tags)

    def add(self, paths: Iterable[str] = (), prefixes: Iterable[str] = (), tags: Iterable[str] = ()) -> None:
        """Adds what has been checked already."""
        if self.all:
            return
        self.paths.update(dict.fromkeys(paths))
        self.prefixes.update(dict.fromkeys(prefixes))
        self.tags.update(dict.fromkeys(tags))
        if len(self) > MOST_NAMES:
            self.take_all()

    def touch(self, *objects: Touched) -> None:
        """These are asked again after COMMIT."""
        if self.all:
            return
        self.touched.update(dict.fromkeys(objects))
        if len(self.touched) > MOST_TOUCHED:
            self.take_all()

    def take_all(self) -> None:
        """Everything; the names are forgotten."""
        self.all = True
        for names in (self.paths, self.prefixes, self.tags, self.touched):
            names.clear()

    def merge(self, other: Selection) -> None:
        if other.all:
            self.take_all()
        self.add(other.paths, other.prefixes, other.tags)
        self.touch(*other.touched)
        self.reason = self.reason or other.reason
        self.reasons += other.reasons

    def because(self, reason: str) -> Selection:
        self.reason, self.reasons = reason[:LONGEST_REASON], 1
        return self

    def says_why(self) -> str | None:
        """The first reason and the number of others."""
        more = self.reasons - 1
        return f"{self.reason} and {more} more" if self.reason and more > 0 else self.reason

    def bodies(self, event: uuid.UUID | None = None) -> Iterator[dict[str, Any]]:
        """The bodies of the POSTs, each with an id: its retries are one invalidation.

        `event` names what has happened. The id is made of it and of the selectors, so that what is sent again in
        another partition is never taken for what was there before.
        """
        event = event or uuid.uuid4()
        reason = self.says_why()
        for part in self._parts():
            id_ = uuid.uuid5(event, json.dumps(part, sort_keys=True))
            yield {**part, **({"reason": reason} if reason else {}), "id": str(id_)}

    def as_body(self) -> dict[str, Any]:
        """All of it, however much, without an id; only the outbox has use for `touched`."""
        kinds = ("paths", "prefixes", "tags", "touched")
        body: dict[str, Any] = {kind: list(names) for kind in kinds if (names := getattr(self, kind))}
        reason = self.says_why()
        return {**body, **({"all": True} if self.all else {}), **({"reason": reason} if reason else {})}

    @classmethod
    def of_body(cls, body: Mapping[str, Any]) -> Selection:
        selection = cls(reason=body.get("reason"), reasons=1)
        selection.add(body.get("paths", ()), body.get("prefixes", ()), body.get("tags", ()))
        selection.touch(*(Touched(*one) for one in body.get("touched", ())))
        if body.get("all"):
            selection.take_all()
        return selection

    def _parts(self) -> Iterator[dict[str, Any]]:
        if self.all:
            yield {"all": True}
            return
        part: dict[str, list[str]] = {}
        names, size = 0, 0
        for kind in ("paths", "prefixes", "tags"):
            for name in getattr(self, kind):
                length = len(json.dumps(name)) + 2
                if names and (names >= NAMES_OF_A_POST or size + length > BYTES_OF_A_POST):
                    yield part
                    part, names, size = {}, 0, 0
                part.setdefault(kind, []).append(name)
                names, size = names + 1, size + length
        if part:
            yield part


BROKEN_TRIPLET = re.compile("%(?![0-9A-Fa-f]{2})")


def checked_path(value: object) -> str:
    """A path or URL as the proxy takes it; TypeError or ValueError that say what is wrong."""
    text = checked_text(value, "a path")
    if text.startswith(("/", "http://", "https://")):
        # Nothing can be meant by it: what reverse() makes of the slug "100%" is /100%25/. The query does not count.
        if BROKEN_TRIPLET.search(re.split("[?#]", text, maxsplit=1)[0]):
            raise ValueError(f"{text!r} has a % without two hexadecimal digits; reverse() and quote() write %25 for it")
        return text
    if text:
        raise ValueError(f"{text!r} is not a path: it begins neither with / nor with http:// or https://")
    raise ValueError("'' is not a path; the front page is '/'")


def checked_text(value: object, what: str) -> str:
    """A string, or one that `reverse_lazy` or `gettext_lazy` promise."""
    if isinstance(value, Promise):
        value = str(value)
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not {what} but {type(value).__name__}")
    if any(character < " " or character == "\x7f" for character in value):
        raise ValueError(f"{value!r} has a control character")
    return str(value)


def checked_tag(value: object) -> str:
    text = checked_text(value, "a tag")
    if not text:
        raise ValueError("'' is not a tag")
    return text


def refuse_one_string(value: object, what: str) -> None:
    """A string where a list belongs would be taken letter by letter."""
    if isinstance(value, str | bytes | Promise):
        raise TypeError(f"{what} should be a list, not the string {value!r}")
    if not isinstance(value, Iterable):
        raise TypeError(f"{what} should be a list, not {value!r}")
