"""Does Wagtail's own front-end cache module keep its pages fresh behind everpage?

The real Wagtail and its admin, before which an editor sits; unchanged, and with the improvements of the recipe.
"""

import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from browser import Browser
from everpage import ROOT, TOKEN, app, everpage, free_url, outcome

SITE = ROOT / "clients/tests/wagtail_site"
PATHS = [SITE, ROOT / "clients/recipes/wagtail", ROOT / "clients/django"]
# How pages are purged, and whether the recipe looks after old addresses.
WAYS = {"unchanged": ("http", "no"), "http": ("http", "yes"), "everpage": ("everpage", "yes")}


def settings(way: str, database, proxy: str, admin: str) -> dict[str, str]:
    backend, old_addresses = WAYS[way]
    return {
        "DJANGO_SETTINGS_MODULE": "settings",
        "PYTHONPATH": os.pathsep.join(map(str, PATHS)),
        "BACKEND": backend,
        "OLD_ADDRESSES": old_addresses,
        "DATABASE": str(database),
        "PROXY": proxy,
        "EVERPAGE_ADMIN_URL": admin,
        "EVERPAGE_TOKEN": TOKEN,
    }


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    """The database of a new site: made once, for it takes the longest."""
    database = tmp_path_factory.mktemp("wagtail") / "site.sqlite3"
    environment = os.environ | settings("everpage", database, "http://127.0.0.1:1", "http://127.0.0.1:1")
    # Nothing listens yet: everything that the seed would purge is of no interest.
    for command in (["-m", "django", "migrate", "--verbosity=0"], ["seed.py"]):
        subprocess.run([sys.executable, *command], cwd=SITE, env=environment, check=True, capture_output=True)
    return database


@pytest.fixture(scope="module", params=WAYS)
def site(request, seeded, tmp_path_factory):
    database = tmp_path_factory.mktemp("site") / "site.sqlite3"
    shutil.copy(seeded, database)
    url, public, admin = free_url(), free_url(), free_url()
    environment = settings(request.param, database, public, admin)
    command = [sys.executable, "-m", "gunicorn", "--threads", "4", "--no-control-socket"]
    listen = {"LISTEN": public.removeprefix("http://"), "ADMIN__LISTEN": admin.removeprefix("http://")}
    command += ["--bind", url.removeprefix("http://"), "wsgi"]
    with app(command, url, environment, SITE), everpage(url, PURGE_FROM='["127.0.0.1/32"]', **listen) as proxy:
        editor = Editor(proxy.url)
        yield SimpleNamespace(proxy=proxy, editor=editor, way=request.param, environment=environment)


class Editor(Browser):
    """Logged in to Wagtail's admin, through the proxy."""

    def __init__(self, base: str) -> None:
        super().__init__(base)
        self.open("/admin/login/")
        self.submit({"username": "editor", "password": "secret"})
        self.home = self._id_of_home()

    def _id_of_home(self) -> str:
        self.open("/admin/pages/")
        return re.search(r"/admin/pages/(\d+)/edit/", self.page.text)[1]

    def add(self, slug: str, text: str, parent: str | None = None) -> str:
        """Publishes a new page; its id."""
        self.open(f"/admin/pages/add/pages/textpage/{parent or self.home}/")
        self.submit({"title": slug.title(), "slug": slug, "text": text, "action-publish": "1"}, "#page-edit-form")
        return re.search(r"/admin/pages/(\d+)/edit/", str(self.soup.select_one(".messages")))[1]

    def change(self, page: str, button: str = "action-publish", **fields: str) -> None:
        self.open(f"/admin/pages/{page}/edit/")
        self.submit(fields | {button: "1"}, "#page-edit-form")

    def confirm(self, page: str, step: str) -> None:
        self.open(f"/admin/pages/{page}/{step}/")
        self.submit({}, f"form[action*='/{step}/']")


def test_a_published_change_is_seen_at_once(site):
    page = site.editor.add("news", "old text")
    site.editor.add("other", "something else")
    assert outcome(site.proxy.get("/news/")) == "miss"
    site.proxy.settle("/news/", "/other/")

    site.editor.change(page, button="action-draft", text="a draft")
    assert outcome(site.proxy.get("/news/")) == "hit"
    site.editor.change(page, text="new text")
    changed = site.proxy.get("/news/")
    assert (outcome(changed), "new text" in changed.text) == ("miss", True)
    assert outcome(site.proxy.get("/news/")) == "hit"
    assert outcome(site.proxy.get("/other/")) == "hit"


def test_an_unpublished_page_is_gone(site):
    page = site.editor.add("gone", "soon")
    site.proxy.settle("/gone/")
    site.editor.confirm(page, "unpublish")
    assert site.proxy.get("/gone/").status_code == 404


def test_a_deleted_page_is_gone(site):
    page = site.editor.add("deleted", "soon")
    site.proxy.settle("/deleted/")
    site.editor.confirm(page, "delete")
    assert site.proxy.get("/deleted/").status_code == 404


def test_a_page_with_a_new_slug_is_at_its_new_address(site):
    page = site.editor.add("before", "text")
    site.editor.add("below", "text below", parent=page)
    site.proxy.settle("/before/", "/before/below/")
    site.editor.change(page, slug="after")
    assert site.proxy.get("/after/").status_code == 200
    assert site.proxy.get("/after/below/").status_code == 200
    if site.way != "unchanged":
        assert site.proxy.get("/before/").status_code == 404
        assert site.proxy.get("/before/below/").status_code == 404


def test_a_page_that_was_moved_is_at_its_new_address(site):
    page, section = site.editor.add("moving", "text"), site.editor.add("section", "text")
    site.editor.add("inside", "text inside", parent=page)
    site.proxy.settle("/moving/", "/moving/inside/")
    site.editor.confirm(page, f"move/{section}/confirm")
    assert site.proxy.get("/section/moving/").status_code == 200
    if site.way != "unchanged":
        assert site.proxy.get("/moving/").status_code == 404
        assert site.proxy.get("/moving/inside/").status_code == 404


def test_a_visitor_amid_a_transaction_does_not_bring_the_old_page_back(site):
    if site.way != "everpage":
        # Wagtail purges before COMMIT: that is what its backend in the recipe is for.
        return
    site.editor.add("transaction", "old")
    site.proxy.settle("/transaction/")
    done = subprocess.run(
        [sys.executable, "amid_a_transaction.py", "transaction", f"{site.proxy.url}/transaction/"],
        cwd=SITE,
        env=os.environ | site.environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "200"), done
    assert site.proxy.get("/transaction/").status_code == 404


def test_a_url_that_is_none_breaks_nothing_and_takes_no_other_with_it(site):
    if site.way != "everpage":
        # Wagtail purges one URL after the other.
        return
    site.editor.add("percent", "text")
    site.proxy.settle("/percent/")
    script = (
        "import django; django.setup()\n"
        "from wagtail.contrib.frontend_cache.utils import purge_urls_from_cache as purge\n"
        f"purge(['{site.proxy.url}/100%/', '{site.proxy.url}/percent/'])"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=SITE, env=os.environ | site.environment, capture_output=True, text=True)
    assert done.returncode == 0, done
    assert "not purged: '/100%/'" in done.stderr
    assert outcome(site.proxy.get("/percent/")) == "miss"
