"""The real everpage for tests: a process before an app, and a link to its admin API that can fail.

It never pretends to be everpage: what is seen through it was said by the binary that EVERPAGE names.
"""

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

import requests

ROOT = Path(__file__).resolve().parents[2]
BINARY = os.environ.get("EVERPAGE", str(ROOT / "target/debug/everpage"))
TOKEN = "token-of-the-tests"
# How long a start or an effect may take on a busy machine. Nothing is asserted about times.
PATIENCE = 60


class Everpage:
    """A running proxy: `url` is what visitors use, `admin` what apps use."""

    def __init__(self, url: str, admin: str) -> None:
        self.url, self.admin = url, admin

    def get(self, path: str, session: requests.Session | None = None, **options) -> requests.Response:
        return (session or requests).get(self.url + path, timeout=PATIENCE, allow_redirects=False, **options)

    def sequence(self) -> int:
        """How many invalidations the journal holds."""
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        answer = requests.post(f"{self.admin}/invalidate", json=[], headers=bearer, timeout=PATIENCE)
        answer.raise_for_status()
        return answer.json()["sequence"]

    def settle(self, *paths: str) -> None:
        """Each page is stored: its next request is a hit. What an earlier test told late may come between."""
        for path in paths:
            self.get(path)
            _wait(lambda path=path: outcome(self.get(path)) == "hit")


def outcome(response: requests.Response) -> str:
    """hit, miss or bypass, as Cache-Status says (RFC 9211)."""
    field = response.headers.get("Cache-Status", "")
    if "; hit" in field:
        return "hit"
    found = re.search(r"fwd=([a-z-]+)", field)
    return {"uri-miss": "miss"}.get(found[1], found[1]) if found else field


@contextmanager
def everpage(origin: str, data: Path | None = None, **settings: str):
    """A proxy before `origin`. A setting is its variable without the prefix: `PURGE_FROM="127.0.0.0/8"`.

    With a folder `data` the pages are still there when it is started again.
    """
    with TemporaryDirectory(prefix="everpage-clients-") as folder:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EVERPAGE")}
        settings = {"LISTEN": "127.0.0.1:0", "ADMIN__LISTEN": "127.0.0.1:0", "ADMIN__TOKEN": TOKEN} | settings
        environment |= {f"EVERPAGE_{name}": value for name, value in settings.items()}
        command = [BINARY, "serve", "--origin", origin, "--data", str(data or f"{folder}/data")]
        log = Path(folder) / "log"
        with log.open("w") as stderr:
            process = subprocess.Popen(command, cwd=folder, env=environment, stderr=stderr)
        try:
            found = _wait(lambda: _addresses(log, process))
            yield Everpage(*found)
        finally:
            process.kill()
            process.wait()


def _addresses(log: Path, process: subprocess.Popen) -> tuple[str, str] | None:
    text = log.read_text()
    if found := re.search(r"answers on (http://\S+)/ for .* dashboard on (http://\S+)/", text):
        return found[1], found[2]
    assert process.poll() is None, f"everpage ended:\n{text}"
    return None


@contextmanager
def app(command: list[str], url: str, environment: dict[str, str], folder: Path | None = None):
    """A web app as a process, until it listens at `url`. What it logs is shown if it ends too early."""
    host, port = re.fullmatch(r"http://([^:/]+):(\d+)", url).groups()
    given = {name: value for name, value in os.environ.items() if not name.startswith("EVERPAGE")}
    with TemporaryDirectory(prefix="everpage-app-") as home:
        log = Path(home) / "log"
        with log.open("w") as output:
            process = subprocess.Popen(
                command,
                cwd=folder or home,
                env=given | environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A group of its own: some apps start workers, which have to end with them.
                start_new_session=True,
            )

        def listens() -> bool:
            assert process.poll() is None, f"{command} ended:\n{log.read_text()}"
            with socket.socket() as attempt:
                return attempt.connect_ex((host, int(port))) == 0

        try:
            _wait(listens)
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_url() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return "http://127.0.0.1:%d" % found.getsockname()[1]


def eventually(check):
    """What `check` returns once it is true; for what happens behind the scenes."""
    return _wait(check)


def _wait(check):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if found := check():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


class Link:
    """Between an app and the admin API: it records what was posted and fails as it is told.

    `faults` is a list of what happens to the next requests: "refuse" answers 503 and passes nothing on, "lose" passes
    it on and drops the answer, as when the network breaks in between; "redirect" sends it elsewhere, and `strays` is
    who went there; "garble" answers what is no HTTP. A path in `spoiled` becomes another one on its way; `rejected`
    holds the paths of what was answered 400.
    """

    def __init__(self) -> None:
        self.target: str | None = None
        self.posted: list[dict] = []
        self.faults: list[str] = []
        self.strays: list[str] = []
        self.spoiled: dict[str, str] = {}
        self.rejected: list[list[str]] = []
        link = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                given = json.loads(body)
                link.posted.append(given)
                fault = link.faults.pop(0) if link.faults else None
                if self.path != "/invalidate":
                    link.strays.append(f"POST {self.path}")
                    return self.reply(200, b"{}")
                if fault == "redirect":
                    self.send_response(302)
                    self.send_header("Location", f"{link.url}/elsewhere")
                    self.send_header("Content-Length", "0")
                    return self.end_headers()
                if fault == "garble":
                    self.close_connection = True
                    self.wfile.write(b"this is no HTTP\r\n\r\n")
                    return None
                if fault == "refuse":
                    return self.reply(503, b'{"error": "not durable"}')
                if link.spoiled:
                    paths = [link.spoiled.get(path, path) for path in given["paths"]]
                    body = json.dumps({**given, "paths": paths}).encode()
                fields = {
                    name: self.headers[name] for name in ("Authorization", "Content-Type") if name in self.headers
                }
                answer = requests.post(link.target + self.path, data=body, headers=fields, timeout=PATIENCE)
                if answer.status_code == 400:
                    link.rejected.append(given["paths"])
                if fault == "lose":
                    self.close_connection = True
                    return None
                return self.reply(answer.status_code, answer.content)

            def do_GET(self) -> None:
                link.strays.append(f"GET {self.path}")
                self.reply(200, b"{}")

            def reply(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
