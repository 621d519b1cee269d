"""Do the recipes keep their word? Each app is met as a visitor and an editor would, behind the real everpage.

The shops are alike, so one list of tests is the contract of them all.
"""

import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import requests
from everpage import ROOT, TOKEN, Link, app, eventually, everpage, free_url, outcome

RECIPES = ROOT / "clients/recipes"
TESTS = ROOT / "clients/tests"
LIST, VANILLA, CHOCOLATE = "/ice-cream/", "/ice-cream/vanilla/", "/ice-cream/chocolate/"


def flask(port: str):
    return [sys.executable, "-m", "flask", "--app", "app", "run", "--port", port], RECIPES / "flask"


def express(port: str):
    return ["node", str(TESTS / "express-app.mjs"), port], None


def rails(port: str):
    if not works("ruby", *["-ractive_record", "-ractive_job", "-rsqlite3", "-rwebrick", "-e", "0"]):
        pytest.skip("Rails needs ruby-activerecord, ruby-activejob, ruby-sqlite3 and ruby-webrick, which are not here")
    return ["ruby", str(TESTS / "rails-app.rb"), port], None


def laravel(port: str):
    if not works("php", "-r", "exit((int) !@include '/usr/share/php/Illuminate/Queue/autoload.php');"):
        pytest.skip("Laravel needs php-cli and php-illuminate-queue, which are not here")
    return ["php", str(TESTS / "laravel-app.php"), port], None


def works(*command: str) -> bool:
    return bool(shutil.which(command[0])) and subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture(scope="module", params=[flask, express, rails, laravel], ids=lambda shop: shop.__name__)
def shop(request, tmp_path_factory):
    url = free_url()
    command, folder = request.param(url.rsplit(":", 1)[1])
    link = Link()
    environment = {
        # An address of this machine that no one takes for it: some leave out their proxy for 127.0.0.1.
        "EVERPAGE_ADMIN_URL": link.url.replace("127.0.0.1", "0.0.0.0"),
        "EVERPAGE_TOKEN": TOKEN,
        "DATABASE": str(tmp_path_factory.mktemp("shop") / "shop.sqlite3"),
        # Where nobody listens: the token is not for it.
        **dict.fromkeys(("http_proxy", "HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:9"),
    }
    with app(command, url, environment, folder), everpage(url) as proxy:
        link.target = proxy.admin
        yield SimpleNamespace(url=url, proxy=proxy, link=link)
    link.close()


@pytest.fixture(autouse=True)
def two_flavors(shop):
    """Each test begins with the same two flavors, and with their pages stored."""
    for slug in ("vanilla", "bourbon-vanilla", "chocolate", "mint"):
        edit(shop, f"{LIST}{slug}/delete/")
    edit(shop, LIST, slug="vanilla", name="Vanilla", price="2.50")
    edit(shop, LIST, slug="chocolate", name="Chocolate", price="2.80")
    shop.proxy.settle(LIST, VANILLA, CHOCOLATE)
    shop.link.posted.clear()
    shop.link.strays.clear()
    yield
    shop.link.spoiled.clear()
    shop.link.rejected.clear()


def edit(shop, path: str, **fields: str) -> int:
    """A change past the proxy, so that only the hook can throw a page away."""
    return requests.post(shop.url + path, data=fields, timeout=60).status_code


def test_a_change_is_seen_at_once_on_the_pages_that_show_it_and_the_others_stay(shop):
    assert edit(shop, VANILLA, price="3.10") == 204
    for path in (LIST, VANILLA):
        page = shop.proxy.get(path)
        assert (outcome(page), "3.10" in page.text) == ("miss", True), path
        assert outcome(shop.proxy.get(path)) == "hit"
    assert outcome(shop.proxy.get(CHOCOLATE)) == "hit"


def test_a_new_flavor_is_on_the_list(shop):
    assert edit(shop, LIST, slug="mint", name="Mint", price="2.90") == 201
    assert "Mint" in shop.proxy.get(LIST).text


def test_a_flavor_that_moved_is_gone_from_its_old_address(shop):
    assert edit(shop, VANILLA, slug="bourbon-vanilla") == 204
    assert shop.proxy.get(VANILLA).status_code == 404
    assert shop.proxy.get("/ice-cream/bourbon-vanilla/").status_code == 200


def test_a_deleted_flavor_is_gone(shop):
    assert edit(shop, f"{VANILLA}delete/") == 204
    assert shop.proxy.get(VANILLA).status_code == 404
    assert "Vanilla" not in shop.proxy.get(LIST).text


def test_a_rollback_sends_nothing(shop):
    before = shop.proxy.sequence()
    assert edit(shop, VANILLA, price="free") == 422
    # The next commit does not bring it along either.
    assert edit(shop, CHOCOLATE, price="3.00") == 204
    assert {path for post in shop.link.posted for path in post["paths"]} == {LIST, CHOCOLATE}
    assert shop.proxy.sequence() == before + len(shop.link.posted)
    assert outcome(shop.proxy.get(VANILLA)) == "hit"


def test_one_transaction_is_one_post(shop):
    assert edit(shop, "/sale/", price="1.00") == 204
    assert [sorted(post["paths"]) for post in shop.link.posted] == [sorted([LIST, VANILLA, CHOCOLATE])]
    assert "1.00" in shop.proxy.get(VANILLA).text


def test_what_was_refused_is_posted_again_with_the_same_id_and_the_save_goes_on(shop):
    shop.link.faults += ["refuse", "refuse"]
    assert edit(shop, VANILLA, price="3.20") == 204
    eventually(lambda: "3.20" in shop.proxy.get(VANILLA).text)
    eventually(lambda: len(shop.link.posted) == 3)
    assert len({post["id"] for post in shop.link.posted}) == 1


def test_an_answer_that_was_lost_makes_no_second_invalidation(shop):
    before = shop.proxy.sequence()
    shop.link.faults += ["lose"]
    assert edit(shop, VANILLA, price="3.30") == 204
    eventually(lambda: len(shop.link.posted) == 2)
    eventually(lambda: shop.proxy.sequence() == before + 1)
    assert "3.30" in shop.proxy.get(VANILLA).text


def test_a_path_that_everpage_rejects_is_not_tried_again_and_takes_no_other_with_it(shop):
    shop.link.spoiled[CHOCOLATE] = "/100%/"
    assert edit(shop, "/sale/", price="1.50") == 204
    for path in (LIST, VANILLA):
        assert (path, "1.50" in shop.proxy.get(path).text) == (path, True)
    assert outcome(shop.proxy.get(CHOCOLATE)) == "hit"
    # Three paths are two halves, and one of them has halves again.
    assert sorted(len(post["paths"]) for post in shop.link.posted) in ([1, 1, 1, 2, 3], [1, 2, 3])
    assert len({post["id"] for post in shop.link.posted}) == len(shop.link.posted)
    # Another one is tried again, and by then that path would have been, too.
    shop.link.faults += ["refuse"]
    assert edit(shop, VANILLA, price="1.55") == 204
    eventually(lambda: "1.55" in shop.proxy.get(VANILLA).text)
    assert [post["paths"] for post in shop.link.posted].count([CHOCOLATE]) <= 1


def test_halves_of_what_was_rejected_are_tried_again_each_by_its_id(shop):
    shop.link.spoiled[CHOCOLATE] = "/100%/"
    shop.link.faults += ["pass", "refuse", "refuse"]
    assert edit(shop, "/sale/", price="1.60") == 204
    eventually(lambda: all("1.60" in shop.proxy.get(path).text for path in (LIST, VANILLA)))
    eventually(lambda: [CHOCOLATE] in shop.link.rejected)


def test_neither_token_nor_post_follow_a_redirect(shop):
    shop.link.faults += ["redirect"]
    assert edit(shop, VANILLA, price="3.40") == 204
    eventually(lambda: "3.40" in shop.proxy.get(VANILLA).text)
    assert (len(shop.link.posted), shop.link.strays) == (2, [])


def test_an_answer_that_is_no_http_breaks_no_save(shop):
    shop.link.faults += ["garble"]
    assert edit(shop, VANILLA, price="3.50") == 204
    eventually(lambda: "3.50" in shop.proxy.get(VANILLA).text)
    assert len({post["id"] for post in shop.link.posted}) == 1
