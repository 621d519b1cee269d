"""Does the example project stay fresh behind everpage for those who use it: visitors, and an editor in Django's admin?

Everything goes through the proxy as a browser would send it; the app is served by gunicorn, as in the compose file.
"""

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import requests
from browser import Browser, filled_in
from everpage import ROOT, TOKEN, app, everpage, free_url, outcome

EXAMPLE = ROOT / "clients/django/example"
MENU, ABOUT, SUGGEST = "/", "/about/", "/suggest/"
VANILLA, CHOCOLATE, LEMON = "/ice-cream/vanilla/", "/ice-cream/chocolate/", "/ice-cream/lemon/"
CONE, CUP, TUB = "/sizes/cone/", "/sizes/cup/", "/sizes/family-tub/"
PAGES = [MENU, ABOUT, VANILLA, CHOCOLATE, LEMON, CONE, CUP, TUB]


class Shop:
    """The example project on a database of its own, and where everpage will be."""

    def __init__(self, folder) -> None:
        self.url, self.public, self.admin = free_url(), free_url(), free_url()
        self.pages = folder / "pages"
        self.environment = {
            "PYTHONPATH": str(ROOT / "clients/django"),
            "DJANGO_SETTINGS_MODULE": "shop.settings",
            "DEBUG": "",
            "SECRET_KEY": "of the tests",
            "DATABASE_URL": os.environ.get("TEST_DATABASE_URL", f"sqlite:///{folder}/shop.sqlite3"),
            "STATIC_ROOT": str(folder / "static"),
            "EVERPAGE_ADMIN_URL": self.admin,
            "EVERPAGE_TOKEN": TOKEN,
            "DJANGO_SUPERUSER_PASSWORD": "secret",
        }
        self.manage("migrate", "--verbosity=0")
        self.manage("collectstatic", "--no-input", "--verbosity=0")
        self.manage("createsuperuser", "--no-input", "--username=maria", "--email=maria@shop.example")

    def manage(self, *command: str) -> str:
        environment = os.environ | self.environment
        done = subprocess.run(
            [sys.executable, "manage.py", *command], cwd=EXAMPLE, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done
        return done.stdout

    def served(self):
        bind = self.url.removeprefix("http://")
        command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--threads", "4", "--bind", bind]
        return app([*command, "--no-control-socket", "shop.wsgi"], self.url, self.environment, EXAMPLE)

    def proxied(self):
        listen = {"LISTEN": self.public.removeprefix("http://"), "ADMIN__LISTEN": self.admin.removeprefix("http://")}
        return everpage(self.url, self.pages, **listen)


class Editor(Browser):
    """Logged in to Django's admin."""

    def __init__(self, base: str) -> None:
        super().__init__(base)
        self.open("/admin/login/")
        self.submit({"username": "maria", "password": "secret"})

    def id_of(self, name: str, model: str = "icecream") -> str:
        page = self.open(f"/admin/icecream/{model}/").text
        return re.search(rf'/admin/icecream/{model}/(\d+)/change/[^"]*">{name}</a>', page)[1]

    def edit(self, name: str, model: str = "icecream", /, **fields) -> None:
        self.open(f"/admin/icecream/{model}/{self.id_of(name, model)}/change/")
        self.save(f"#{model}_form", **fields)

    def add(self, model: str = "icecream", **fields) -> None:
        self.open(f"/admin/icecream/{model}/add/")
        self.save(f"#{model}_form", **fields)

    def save(self, form: str, **fields) -> None:
        self.submit(fields | {"_save": "Save"}, form)
        assert self.soup.select_one(".errornote") is None, self.soup.select_one(".errorlist")

    def act(self, action: str, *names: str, query: str = "") -> None:
        chosen = [self.id_of(name) for name in names]
        self.open(f"/admin/icecream/icecream/{query}")
        self.submit({"action": action, "_selected_action": chosen, "index": "0"}, "#changelist-form")

    def sizes(self) -> dict[str, str]:
        return {option.text: option["value"] for option in self.soup.select("select[name=sizes] option")}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    shop = Shop(tmp_path_factory.mktemp("shop"))
    with shop.served(), shop.proxied() as proxy:
        yield SimpleNamespace(proxy=proxy, editor=Editor(proxy.url), manage=shop.manage)


@pytest.fixture(autouse=True)
def stored(request):
    """Each test begins with all pages stored."""
    if "shop" in request.fixturenames:
        shop = request.getfixturevalue("shop")
        shop.proxy.settle(*[page for page in PAGES if shop.proxy.get(page).status_code == 200])


@contextmanager
def changes(shop, *paths: str):
    """Exactly the pages at `paths` are rendered anew after what happens inside; all others are kept."""
    before = {path: shop.proxy.get(path).text for path in PAGES if shop.proxy.get(path).status_code == 200}
    yield
    for path, text in before.items():
        page = shop.proxy.get(path)
        assert (path, outcome(page)) == (path, "miss" if path in paths else "hit")
        assert (path, page.text == text) == (path, path not in paths)


# --- Visitors ---


def test_the_first_visitor_has_a_page_rendered_and_all_others_get_the_same(shop):
    shop.manage("everpage_invalidate", "--all")
    for path in PAGES:
        first, second = shop.proxy.get(path), shop.proxy.get(path)
        assert (path, outcome(first), outcome(second)) == (path, "miss", "hit")
        assert first.text == second.text


def test_cookies_of_analytics_and_of_csrf_do_not_cost_a_visitor_the_cache(shop):
    cookies = {"_ga": "GA1.1.1", "csrftoken": "abcdefghijklmnopqrstuvwxyz012345"}
    assert outcome(shop.proxy.get(MENU, cookies=cookies)) == "hit"


def test_files_with_a_hash_in_their_name_are_kept(shop):
    style = re.search(r'href="(/static/icecream/shop\.[0-9a-f]+\.css)"', shop.proxy.get(MENU).text)[1]
    shop.proxy.settle(style)


def test_each_visitor_gets_a_form_of_his_own_and_can_send_it(shop):
    one, other = Browser(shop.proxy.url), Browser(shop.proxy.url)
    for visitor in (one, other):
        page = visitor.open(SUGGEST)
        assert "detail=set-cookie" in page.headers["Cache-Status"]
    tokens = {filled_in(visitor.form())["csrfmiddlewaretoken"][0] for visitor in (one, other)}
    assert len(tokens) == 2
    assert one.session.cookies["csrftoken"] != other.session.cookies["csrftoken"]
    assert "We will think about Basil." in one.submit({"flavor": "Basil"}).text
    assert "We will think about Sesame." in other.submit({"flavor": "Sesame"}).text


def test_a_message_is_seen_once_by_whom_it_is_for(shop):
    visitor = Browser(shop.proxy.url)
    visitor.open(SUGGEST)
    with changes(shop):
        page = visitor.submit({"flavor": "Rhubarb"})
        assert (page.url, outcome(page)) == (shop.proxy.url + MENU, "bypass")
        assert "We will think about Rhubarb." in page.text
        assert "Rhubarb" not in shop.proxy.get(MENU).text
    again = visitor.open(MENU)
    assert (outcome(again), "Rhubarb" in again.text) == ("hit", False)


def test_a_form_without_its_token_is_refused(shop):
    answer = requests.post(shop.proxy.url + SUGGEST, {"flavor": "Garlic"}, timeout=60)
    assert answer.status_code == 403
    assert "detail=method" in answer.headers["Cache-Status"]


# --- The editor ---


def test_what_an_editor_sees_is_never_kept(shop):
    for path in PAGES:
        seen = shop.editor.open(path)
        assert (outcome(seen), "Edit as maria" in seen.text) == ("bypass", True)
        public = shop.proxy.get(path)
        assert (outcome(public), "maria" in public.text) == ("hit", False)
    # Nor where the editor is the first to come.
    shop.manage("everpage_invalidate", "--all")
    for path in PAGES:
        assert "Edit as maria" in shop.editor.open(path).text
        assert "maria" not in shop.proxy.get(path).text
    assert outcome(shop.editor.open("/admin/")) == "bypass"
    assert outcome(shop.proxy.get("/admin/login/")) == "bypass"


def test_a_new_price_is_on_exactly_the_pages_that_show_the_flavor(shop):
    with changes(shop, MENU, VANILLA, CONE, CUP, TUB):
        shop.editor.edit("Vanilla", price="2.05")
    assert "2.05" in shop.proxy.get(MENU).text
    assert "2.05" in shop.proxy.get(VANILLA).text


def test_a_flavor_that_got_another_slug_is_gone_from_its_old_address(shop):
    with changes(shop, MENU, CHOCOLATE, CONE, CUP, TUB):
        shop.editor.edit("Chocolate", slug="dark-chocolate")
        assert shop.proxy.get(CHOCOLATE).status_code == 404
        assert "Seventy percent" in shop.proxy.get("/ice-cream/dark-chocolate/").text
        assert '"/ice-cream/dark-chocolate/"' in shop.proxy.get(TUB).text
        # Back again: a 404 is not kept.
        shop.editor.edit("Chocolate", slug="chocolate")


def test_a_size_that_is_added_and_one_that_is_taken_away(shop):
    shop.editor.open(f"/admin/icecream/icecream/{shop.editor.id_of('Lemon')}/change/")
    sizes = shop.editor.sizes()
    # The two sizes have changed as well: their pages go, and the pages of what comes in them.
    with changes(shop, MENU, LEMON, CONE, CUP, VANILLA, CHOCOLATE):
        shop.editor.save("#icecream_form", sizes=[sizes["Cup"]])
    assert "Lemon" in shop.proxy.get(CUP).text
    assert "Lemon" not in shop.proxy.get(CONE).text
    assert "Cup" in shop.proxy.get(LEMON).text


def test_a_renamed_size_is_on_the_pages_of_all_that_comes_in_it(shop):
    with changes(shop, TUB, VANILLA, CHOCOLATE):
        shop.editor.edit("Family tub", "size", name="Party tub")
    assert "Party tub" in shop.proxy.get(VANILLA).text


def test_a_new_flavor_is_on_the_menu_and_a_deleted_one_is_not(shop):
    with changes(shop, MENU):
        shop.editor.add(name="Fig", slug="fig", price="2.60", sizes=None)
    assert "Fig" in shop.proxy.get(MENU).text
    shop.proxy.settle("/ice-cream/fig/", MENU)
    with changes(shop, MENU):
        shop.editor.open(f"/admin/icecream/icecream/{shop.editor.id_of('Fig')}/delete/")
        shop.editor.submit({"post": "yes"}, "#content form[method=post]")
    assert shop.proxy.get("/ice-cream/fig/").status_code == 404
    assert "Fig" not in shop.proxy.get(MENU).text


def test_an_action_on_many_reaches_the_pages_of_all_of_them(shop):
    with changes(shop, MENU, VANILLA, CHOCOLATE, CONE, CUP, TUB):
        shop.editor.act("sell_out", "Vanilla", "Chocolate")
    assert shop.proxy.get(MENU).text.count("sold out") == 2
    shop.editor.act("bring_back", "Vanilla", "Chocolate")
    assert "sold out" not in shop.proxy.get(MENU).text


def test_an_action_on_a_list_that_is_filtered_by_what_it_changes(shop):
    with changes(shop, MENU, VANILLA, CONE, CUP, TUB):
        shop.editor.act("sell_out", "Vanilla", query="?sold_out__exact=0")
    assert shop.proxy.get(MENU).text.count("sold out") == 1
    with changes(shop, MENU, VANILLA, CONE, CUP, TUB):
        shop.editor.act("bring_back", "Vanilla", query="?sold_out__exact=1")
    assert "sold out" not in shop.proxy.get(MENU).text


def test_many_that_are_deleted_at_once_are_gone(shop):
    for name in ("Basil", "Sesame"):
        shop.editor.add(name=name, slug=name.lower(), price="2.60", sizes=None)
        shop.proxy.settle(f"/ice-cream/{name.lower()}/")
    shop.editor.act("delete_selected", "Basil", "Sesame")
    shop.editor.submit({"post": "yes"}, "#content form[method=post]")
    for path in ("/ice-cream/basil/", "/ice-cream/sesame/"):
        assert shop.proxy.get(path).status_code == 404
    assert "Basil" not in shop.proxy.get(MENU).text


def test_prices_that_are_changed_in_the_list_are_on_the_pages(shop):
    shop.editor.open("/admin/icecream/icecream/")
    prices = [name for name in filled_in(shop.editor.form("#changelist-form")) if name.endswith("-price")]
    shop.editor.submit(dict.fromkeys(prices, "3.45") | {"_save": "Save"}, "#changelist-form")
    assert shop.proxy.get(MENU).text.count("€ 3.45") == len(prices) > 4
    assert "3.45" in shop.proxy.get(LEMON).text or "5.05" in shop.proxy.get(LEMON).text


def test_a_mistake_in_a_form_changes_no_page(shop):
    with changes(shop):
        shop.editor.open(f"/admin/icecream/icecream/{shop.editor.id_of('Vanilla')}/change/")
        shop.editor.submit({"price": "free", "_save": "Save"}, "#icecream_form")
        assert "Enter a number." in shop.editor.page.text


def test_the_panel_tells_the_pages_and_clears_them(shop):
    vanilla = shop.editor.id_of("Vanilla")
    panel = shop.editor.open(f"/admin/icecream/icecream/{vanilla}/everpage/").text
    for path in (MENU, VANILLA, CONE, CUP, TUB):
        assert path in panel
    with changes_nothing_but_renders(shop, VANILLA):
        shop.editor.act("clear_from_cache", "Vanilla")


@contextmanager
def changes_nothing_but_renders(shop, path: str):
    assert outcome(shop.proxy.get(path)) == "hit"
    yield
    assert outcome(shop.proxy.get(path)) == "miss"


# --- When everpage is away ---


def test_a_save_while_everpage_is_away_survives_the_crash_of_the_app_too(tmp_path):
    away = Shop(tmp_path)
    with away.served():
        with away.proxied() as proxy:
            proxy.settle(MENU, VANILLA)
        Editor(away.url).edit("Vanilla", price="4.20")
    # Both were killed. What was saved is a row of the outbox, written by the same transaction.
    with away.served(), away.proxied() as proxy:
        # The page in its folder is still the old one, and nobody has told it otherwise.
        assert outcome(proxy.get(VANILLA)) == "hit"
        away.manage("everpage_relay", "--once")
        page = proxy.get(VANILLA)
        assert (outcome(page), "4.20" in page.text) == ("miss", True)
        assert "4.20" in proxy.get(MENU).text
