"""A local server for the lesson: serves the page, and computes the tensors of any prompt."""

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from gpt2.errors import GPT2Error
from gpt2.lesson.document import to_json

ADDRESS = "127.0.0.1"
LARGEST_BODY = 64 * 1024  # bytes of a request body
PATIENCE = 10  # seconds until an idle connection is closed; browsers open some and never use them
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class LessonServer(ThreadingHTTPServer):
    """Answers GET / with the page, and POST /lesson, {"prompt": text}, with the part that depends on the prompt.

    compute makes this part from the text; if it raises GPT2Error, the answer is {"error": line}. Requests for another
    host or from another origin are refused, so that no website can use the server through the browser.
    """

    daemon_threads = True

    def __init__(self, port: int, page: str, compute: Callable[[str], Mapping[str, Any]]) -> None:
        """Listen on a port; 0: any free one. Raises GPT2Error if the port is taken."""
        try:
            super().__init__((ADDRESS, port), LessonHandler)
        except OSError as error:
            raise GPT2Error(f"cannot listen on {ADDRESS}:{port}: {error.strerror}; choose another --port") from error
        self.page, self.compute = page.encode(), compute
        self.one_at_a_time = threading.Lock()  # recording the stages of a model is not thread-safe

    @property
    def hosts(self) -> set[str]:
        """The Host headers of requests to this server."""
        return {f"{name}:{self.server_port}" for name in (ADDRESS, "localhost")}

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{ADDRESS}:{self.server_port}/"


class LessonHandler(BaseHTTPRequestHandler):
    """Handles one request to a LessonServer."""

    server: LessonServer
    timeout = PATIENCE
    server_version, sys_version = "gpt2", ""

    def do_GET(self) -> None:
        """Send the page."""
        if not self._refused(self.path == "/"):
            self._answer(200, self.server.page, "text/html")

    def do_POST(self) -> None:
        """Send the lesson of a prompt."""
        if self._refused(self.path == "/lesson"):
            return
        try:
            prompt = self._prompt()
            with self.server.one_at_a_time:
                lesson = self.server.compute(prompt)
        except GPT2Error as error:
            self._fail(400, str(error))
        else:
            self._answer(200, to_json(lesson).encode(), "application/json")

    def _refused(self, known: bool) -> bool:
        """Refuse a request for another host (DNS rebinding), from another origin, or for another path."""
        origin = self.headers.get("Origin")
        if self.headers.get("Host") not in self.server.hosts:
            self._fail(403, f"this lesson is only at {self.server.url}")
        elif origin is not None and origin.removeprefix("http://") not in self.server.hosts:
            self._fail(403, f"this lesson only answers its own page, at {self.server.url}")
        elif not known:
            self._fail(404, "the only paths are / and /lesson")
        else:
            return False
        return True

    def _prompt(self) -> str:
        length = self.headers.get("Content-Length", "")
        if self.headers.get_content_type() != "application/json":
            raise GPT2Error('expected JSON, Content-Type: application/json, such as {"prompt": "reverse: abcd\\n"}')
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            raise GPT2Error(
                f"expected a Content-Length of at most {LARGEST_BODY} bytes, but it is {length or 'missing'}"
            )
        try:
            request = json.loads(self.rfile.read(int(length)))
        except ValueError as error:
            raise GPT2Error(f"the request is not JSON: {error}") from error
        if not isinstance(request, dict) or not isinstance(request.get("prompt"), str):
            raise GPT2Error('expected {"prompt": "text"}')
        return request["prompt"]

    def _fail(self, status: int, line: str) -> None:
        self.close_connection = True
        self._answer(status, to_json({"error": line}).encode(), "application/json")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing to the terminal."""
