"""What stands in for the proxy's admin listener where the test needs it to fail in its own way."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Listener:
    """Answers with what `answer(body)` gives: a status and a dict; None: never. Keeps every body in `bodies`."""

    def __init__(self, answer=lambda body: (200, {"sequence": 1, "nodes": 1})):
        self.answer = answer
        self.bodies = []
        self.headers = []
        self.ended = threading.Event()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                listener.bodies.append(body)
                listener.headers.append(dict(self.headers))
                answer = listener.answer(body)
                if answer is None:
                    listener.ended.wait(60)
                    return
                status, content = answer
                content = json.dumps(content).encode() if isinstance(content, dict) else content
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def paths(self):
        return [path for body in self.bodies for path in body.get("paths", ())]

    def stop(self):
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
