"""A real everpage before the test server of Django."""

import http.client
import json
import os
import re
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from django.test import LiveServerTestCase, override_settings

TOKEN = "token-of-the-tests"
START_SECONDS = 30
ADDRESSES = re.compile(r"answers on http://([^/]+)/ .* dashboard on http://([^/]+)/")


class Answer(NamedTuple):
    status: int
    text: str
    outcome: str  # Cache-Status without the name

    @property
    def is_hit(self):
        return self.outcome.startswith("hit")


class Proxy:
    """One process; `kill` and `start` again keep its addresses and its data."""

    def __init__(self, origin):
        self.folder = tempfile.TemporaryDirectory(prefix="everpage-")
        self.origin = origin
        self.public = self.admin = "127.0.0.1:0"
        self.start()

    def start(self):
        config = Path(self.folder.name) / "config.toml"
        config.write_text(
            f'listen = "{self.public}"\n[origin]\nurl = "{self.origin}"\n'
            f'[admin]\nlisten = "{self.admin}"\ntoken = "{TOKEN}"\n'
            f'[store]\nkind = "filesystem"\n[store.filesystem]\npath = "{self.folder.name}/data"\n'
        )
        environment = {key: value for key, value in os.environ.items() if not key.startswith("EVERPAGE")}
        self.process = subprocess.Popen(
            [os.environ["EVERPAGE"], "serve", "--config", str(config)],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        found, lines = None, []
        while found is None and (line := self.process.stderr.readline()):
            lines.append(line)
            found = ADDRESSES.search(line)
        assert found, f"everpage did not start: {''.join(lines)}"
        self.public, self.admin = found.groups()
        # The pipe must not fill up.
        self.reader = threading.Thread(target=self.process.stderr.read, daemon=True)
        self.reader.start()

    @property
    def url(self):
        return f"http://{self.admin}"

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stderr.close()

    def stop(self):
        if self.process.poll() is None:
            self.kill()
        self.folder.cleanup()

    def get(self, path):
        connection = http.client.HTTPConnection(self.public, timeout=60)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        outcome = response.getheader("Cache-Status", "").removeprefix("everpage; ")
        return Answer(response.status, text, outcome)

    def ask(self, path):
        connection = http.client.HTTPConnection(self.admin, timeout=60)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def sequence(self):
        return self.ask("/status")["journal"]["sequence"]


class ProxyTestCase(LiveServerTestCase):
    """`self.proxy` stands before the project, and the project knows it."""

    databases = {"default", "second"}
    everpage = {}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.proxy = Proxy(cls.live_server_url)
        cls.addClassCleanup(cls.proxy.stop)
        settings = override_settings(EVERPAGE={"URL": cls.proxy.url, "TOKEN": TOKEN, **cls.everpage})
        settings.enable()
        cls.addClassCleanup(settings.disable)

    def visit(self, path):
        """Fetches the page until it comes from the cache; its text."""
        first = self.proxy.get(path)
        self.assertEqual(first.status, 200, f"{path}: {first}")
        second = self.proxy.get(path)
        self.assertTrue(second.is_hit, f"{path}: {second}")
        self.assertEqual(second.text, first.text)
        return second.text

    def store(self, path):
        """Visits the page and waits until it is not only in the memory of the proxy but in its store."""
        text = self.visit(path)
        self.wait_for(lambda: any(page["valid"] for page in self.proxy.ask(f"/pages?prefix={path}")["pages"]), "stored")
        return text

    def assert_new(self, path, old):
        """The next visitor gets a page that was rendered anew, and it is another one."""
        answer = self.proxy.get(path)
        self.assertFalse(answer.is_hit, f"{path} still comes from the cache: {answer}")
        self.assertNotEqual(answer.text, old)

    def assert_kept(self, path):
        self.assertTrue(self.proxy.get(path).is_hit, f"{path} was invalidated")

    def wait_for(self, condition, what):
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            self.assertLess(time.monotonic(), deadline, f"never: {what}")
            time.sleep(0.02)
