"""A visitor with cookies who fills in forms as a browser does: every field goes along, CSRF token included."""

from urllib.parse import urljoin

import requests
from bs4 import BeautifulSoup, Tag
from everpage import PATIENCE


class Browser:
    def __init__(self, base: str) -> None:
        self.base = base
        self.session = requests.Session()
        self.page: requests.Response | None = None

    def open(self, path: str) -> requests.Response:
        return self._arrive(self.session.get(urljoin(self.base, path), timeout=PATIENCE))

    @property
    def soup(self) -> BeautifulSoup:
        return BeautifulSoup(self.page.text, "html.parser")

    def form(self, selector: str = "form[method=post]") -> Tag:
        found = self.soup.select_one(selector)
        assert found is not None, f"no {selector} in {self.page.url}:\n{self.page.text[:2000]}"
        return found

    def submit(
        self, changes: dict[str, str | list[str] | None], selector: str = "form[method=post]"
    ) -> requests.Response:
        """Sends the form of this page with `changes`; None leaves a field out. Buttons are fields of `changes`."""
        form = self.form(selector)
        fields = {**filled_in(form), **changes}
        action = urljoin(self.page.url, form.get("action") or self.page.url)
        fields = {name: value for name, value in fields.items() if value is not None}
        return self._arrive(
            self.session.post(action, data=fields, headers={"Referer": self.page.url}, timeout=PATIENCE)
        )

    def _arrive(self, page: requests.Response) -> requests.Response:
        self.page = page
        assert page.status_code < 400, f"{page.status_code} of {page.url}:\n{page.text[:2000]}"
        return page


def filled_in(form: Tag) -> dict[str, list[str]]:
    """What a browser would send if nobody touched the form."""
    fields: dict[str, list[str]] = {}
    for field in form.select("input[name], select[name], textarea[name]"):
        if field.has_attr("disabled"):
            continue
        fields.setdefault(field["name"], []).extend(_values(field))
    return {name: values for name, values in fields.items() if values}


def _values(field: Tag) -> list[str]:
    if field.name == "textarea":
        # The parser keeps the newline that HTML drops.
        return [field.text.removeprefix("\n")]
    if field.name == "select":
        chosen = field.select("option[selected]")
        if not chosen and not field.has_attr("multiple"):
            chosen = field.select("option")[:1]
        return [option.get("value", option.text) for option in chosen]
    kind = field.get("type", "text")
    if kind in ("submit", "button", "image", "file", "reset"):
        return []
    if kind in ("checkbox", "radio"):
        return [field.get("value", "on")] if field.has_attr("checked") else []
    return [field.get("value", "")]
