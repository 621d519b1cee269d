"""The recipes that are no shop: the commands of the README, Next, WordPress, and SQLAlchemy's finer points."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import requests
from everpage import ROOT, TOKEN, Link, app, eventually, everpage, free_url, outcome
from sqlalchemy import Column, ForeignKey, Table, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, sessionmaker

RECIPES = ROOT / "clients/recipes"
sys.path.insert(0, str(RECIPES / "flask"))
import everpage_sqlalchemy


@pytest.fixture
def link(monkeypatch):
    link = Link()
    monkeypatch.setenv("EVERPAGE_ADMIN_URL", link.url)
    monkeypatch.setenv("EVERPAGE_TOKEN", TOKEN)
    yield link
    link.close()


@pytest.fixture
def site(tmp_path):
    """A web server of files, which a test changes."""

    class Files(SimpleHTTPRequestHandler):
        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=tmp_path))
    Thread(target=server.serve_forever, daemon=True).start()
    for path in ("ice-cream/index.html", "ice-cream/vanilla/index.html", "about/index.html"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("old")
    yield "http://127.0.0.1:%d" % server.server_address[1]
    server.shutdown()
    server.server_close()


# --- curl ---


def commands() -> list[str]:
    readme = (RECIPES / "README.md").read_text()
    return re.findall(r"```sh\n(.*?)```", readme.split("\n## curl\n")[1], re.DOTALL)


def run(command: str, environment: dict[str, str]) -> str:
    done = subprocess.run(["bash", "-euc", command], env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done
    return done.stdout


def test_the_commands_of_the_readme_do_what_they_say(site, link):
    exports, two_pages, dry_run, everything, purge = commands()
    assert re.findall(r"export (\w+)=", exports) == ["EVERPAGE_ADMIN_URL", "EVERPAGE_TOKEN"]
    with everpage(site, PURGE_FROM="127.0.0.0/8") as proxy:
        link.target = proxy.admin
        given = {"EVERPAGE_ADMIN_URL": link.url, "EVERPAGE_TOKEN": TOKEN, "http_proxy": "http://127.0.0.1:9"}
        pages = ["/ice-cream/", "/ice-cream/vanilla/", "/about/"]
        outcomes = lambda: [outcome(proxy.get(path)) for path in pages]
        proxy.settle(*pages)

        assert json.loads(run(dry_run, given))["stored"] == 2
        assert outcomes() == ["hit", "hit", "hit"]
        # Once refused: the command tries again by itself, with the same id.
        link.faults.append("refuse")
        answer = json.loads(run(two_pages, given).replace('{"error": "not durable"}', ""))
        assert (answer["paths"], answer["sequence"]) == (2, 1)
        assert len({post["id"] for post in link.posted[1:]}) == 1
        assert len(link.posted) == 3
        assert outcomes() == ["miss", "miss", "hit"]
        run(everything, given)
        assert outcomes() == ["miss", "miss", "miss"]
        run(purge.replace("http://127.0.0.1:8080", proxy.url), given)
        assert outcomes() == ["miss", "hit", "hit"]


def test_a_wrong_token_is_an_error_of_the_command(site, link):
    with everpage(site) as proxy:
        given = {"EVERPAGE_ADMIN_URL": proxy.admin, "EVERPAGE_TOKEN": "wrong"}
        done = subprocess.run(["bash", "-euc", commands()[2]], env=os.environ | given, capture_output=True, text=True)
        assert done.returncode != 0
        assert "error" in json.loads(done.stdout)


# --- Next ---


def test_an_action_of_next_clears_nexts_cache_first_and_everpage_after_it(site, link, tmp_path):
    shutil.copy(RECIPES / "node/everpage.mjs", tmp_path)
    shutil.copy(RECIPES / "node/next-actions.mjs", tmp_path)
    # Next itself is 200 MB: its one function that is called is a stand-in, which notes when that happened.
    (tmp_path / "node_modules/next").mkdir(parents=True)
    (tmp_path / "node_modules/next/package.json").write_text('{"name": "next", "exports": {"./cache": "./cache.cjs"}}')
    (tmp_path / "node_modules/next/cache.cjs").write_text("exports.revalidatePath = (path) => console.log(path);")
    (tmp_path / "database.mjs").write_text(
        """
        const query = async (text) => console.log(text.split(" ")[0]);
        export const pool = { connect: async () => ({ query, release: () => console.log("released") }) };
        """
    )
    (tmp_path / "main.mjs").write_text(
        """
        import { savePrice } from "./next-actions.mjs";
        const { fetch } = globalThis;
        globalThis.fetch = (...given) => (console.log("POST"), fetch(...given));
        await savePrice("vanilla", "3.10");
        """
    )
    with everpage(site) as proxy:
        link.target = proxy.admin
        proxy.settle("/ice-cream/", "/ice-cream/vanilla/")
        done = subprocess.run(["node", "main.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert outcome(proxy.get("/ice-cream/vanilla/")) == "miss"
    steps = ["BEGIN", "UPDATE", "COMMIT", "released", "/ice-cream/", "/ice-cream/vanilla/", "POST"]
    assert done.stdout.split() == steps


def test_a_commit_whose_answer_was_lost_may_have_taken_place_so_the_pages_go(site, link):
    script = """
        const { transaction } = await import(process.argv[1]);
        const query = async (text) => {
          if (text === process.argv[2]) throw new Error("connection lost");
        };
        const pool = { connect: async () => ({ query, release: () => {} }) };
        const work = async (client, changed) => {
          changed.add("/ice-cream/");
          await client.query("UPDATE");
        };
        await transaction(pool, work).catch((error) => console.log(error.message));
        """
    with everpage(site) as proxy:
        link.target = proxy.admin
        for step, posts in (("UPDATE", 0), ("COMMIT", 1)):
            command = ["node", "--input-type=module", "--eval", script, str(RECIPES / "node/everpage.mjs"), step]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            assert (done.stdout, len(link.posted)) == ("connection lost\n", posts), done


# --- WordPress ---


def test_wordpress_purges_what_shows_a_post_before_and_after(tmp_path):
    if not shutil.which("php"):
        pytest.skip("php is not installed")
    database = tmp_path / "posts.json"
    post = {"post_name": "hello", "post_title": "Hello", "post_status": "publish", "category": "news"}
    other = post | {"post_name": "other", "post_title": "Other", "category": "misc"}
    database.write_text(json.dumps({"7": post, "8": other}))
    url, proxy_url = free_url(), free_url()
    command = ["php", "-S", url.removeprefix("http://"), str(ROOT / "clients/tests/wordpress-app.php")]
    save = lambda **fields: requests.post(f"{url}/wp-admin/post.php", fields, timeout=60)
    pages = ["/", "/feed/", "/author/3/", "/page/2/", "/category/news/", "/hello/"]
    with app(command, url, {"DATABASE": str(database), "PROXY": proxy_url}):
        with everpage(url, PURGE_FROM="127.0.0.0/8", LISTEN=proxy_url.removeprefix("http://")) as proxy:
            proxy.settle(*pages, "/other/", "/category/misc/")
            save(post_title="Hello again")
            assert {path: "again" in proxy.get(path).text for path in pages} == dict.fromkeys(pages, True)
            assert outcome(proxy.get("/other/")) == "hit"
            assert outcome(proxy.get("/category/misc/")) == "hit"

            proxy.settle(*pages)
            save(post_name="moved", category="misc")
            assert proxy.get("/hello/").status_code == 404
            assert proxy.get("/category/news/").status_code == 404
            assert "again" in proxy.get("/category/misc/").text

            proxy.settle("/moved/")
            save(post_status="draft")
            assert proxy.get("/moved/").status_code == 404

        # everpage is gone: what could not be purged is tried again by WP-Cron, until it is done.
        save(post_status="publish")
        cron = tmp_path / "posts.json.cron"
        hook, (urls, tried) = json.loads(cron.read_text())
        assert (hook, tried) == ("everpage_retry", 1)
        assert "http://blog.example:8080/moved/" in urls
        with everpage(url, PURGE_FROM="127.0.0.0/8", LISTEN=proxy_url.removeprefix("http://")) as proxy:
            before = proxy.sequence()
            requests.post(f"{url}/wp-cron.php", timeout=60)
            assert proxy.sequence() == before + len(urls)
        assert not cron.exists()


# --- SQLAlchemy ---


class Base(DeclarativeBase):
    pass


SIZES = Table(
    "flavor_size",
    Base.metadata,
    Column("flavor_id", ForeignKey("flavor.id"), primary_key=True),
    Column("size_id", ForeignKey("size.id"), primary_key=True),
)


class Size(Base):
    __tablename__ = "size"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]

    def dependent_paths(self):
        return [f"/sizes/{self.name}/"]


class Flavor(Base):
    __tablename__ = "flavor"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    sizes: Mapped[list[Size]] = relationship(secondary=SIZES, backref="flavors")

    def dependent_paths(self):
        yield f"/flavors/{self.name}/"
        for size in self.sizes:
            yield from size.dependent_paths()


@pytest.fixture
def sessions(link, tmp_path):
    """A watched session, an object of each kind, and the real everpage behind the link."""
    engine = create_engine(f"sqlite:///{tmp_path}/shop.sqlite3")
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)
    with sessions.begin() as session:
        session.add_all([Flavor(name="vanilla", sizes=[Size(name="small")]), Size(name="large")])
    everpage_sqlalchemy.watch(sessions)
    with everpage("http://127.0.0.1:1") as proxy:
        link.target = proxy.admin
        yield sessions
        # What is still tried again would meet the faults of the next test.
        link.faults.clear()
        eventually(lambda: not everpage_sqlalchemy._waiting)


def posted(link: Link) -> list[list[str]]:
    return [post["paths"] for post in link.posted]


def test_a_related_object_brings_its_paths_from_before_and_after(sessions, link):
    with sessions.begin() as session:
        flavor, large = session.query(Flavor).one(), session.query(Size).filter_by(name="large").one()
        flavor.sizes = [large]
    assert posted(link) == [["/flavors/vanilla/", "/sizes/large/", "/sizes/small/"]]


def test_the_release_of_a_savepoint_is_no_commit(sessions, link):
    with sessions() as session:
        with session.begin_nested():
            session.query(Flavor).one().name = "bourbon"
        assert posted(link) == []
        session.rollback()
        session.commit()
        assert posted(link) == []


def test_what_a_savepoint_saved_is_sent_with_the_commit(sessions, link):
    with sessions.begin() as session:
        with session.begin_nested():
            session.query(Flavor).one().name = "bourbon"
        with pytest.raises(ZeroDivisionError), session.begin_nested():
            session.query(Size).filter_by(name="large").one().name = "huge"
            session.flush()
            raise ZeroDivisionError
    assert {"/flavors/vanilla/", "/flavors/bourbon/", "/sizes/small/"} <= set(posted(link)[0])
    assert len(posted(link)) == 1


def test_a_commit_that_changed_nothing_sends_nothing(sessions, link):
    with sessions.begin() as session:
        assert session.query(Flavor).count() == 1
    assert posted(link) == []


def test_a_proxy_that_is_away_does_not_break_the_save(sessions, link, monkeypatch):
    monkeypatch.setattr(everpage_sqlalchemy, "PAUSES_SECONDS", [0.1] * 5)
    link.faults += ["refuse"] * 3
    with sessions.begin() as session:
        session.query(Flavor).one().name = "bourbon"
    eventually(lambda: len(link.posted) == 4)
    assert len({post["id"] for post in link.posted}) == 1


def test_a_process_that_ends_does_not_wait_for_everpage_but_tries_once_more_and_names_what_is_left(sessions, link):
    script = """
        import everpage_sqlalchemy, time
        everpage_sqlalchemy.invalidate(["/flavors/vanilla/"])
        while not everpage_sqlalchemy._waiting: time.sleep(0.01)
        """
    environment = os.environ | {"PYTHONPATH": str(RECIPES / "flask")}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    for faults, says in (
        (["refuse"], ""),
        (["refuse"] * 9, "not invalidated, old pages may stay: ['/flavors/vanilla/']"),
    ):
        link.faults[:], before = faults, len(link.posted)
        # All pauses together are longer than this.
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done
        assert ("not invalidated" in done.stderr, says in done.stderr) == (bool(says), True)
        assert len(link.posted) >= before + 2
