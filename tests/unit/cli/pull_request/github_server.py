"""A GitHub that holds a pull request's comments, in this process."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

REPOSITORY = "team/code"
TOKEN = "t0k3n"
BOT = {"login": "github-actions[bot]", "type": "Bot"}


@dataclass
class State:
    """What is on GitHub, and what was asked.

    Attributes:
        comments: of pull request 7.
        answers: given instead, first to last: status, headers and body by method.
        login: of the token; an app's has none.
        lose: so many answers to writing requests are lost, after they took effect.
    """

    comments: list[dict[str, Any]] = field(default_factory=list)
    pulls: list[dict[str, Any]] = field(default_factory=list)
    answers: list[tuple[str, int, dict[str, str], str]] = field(default_factory=list)
    login: str | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)
    lose: int = 0
    url: str = ""

    def add(self, body: str, user: dict[str, str]) -> dict[str, Any]:
        number = 1 + max((comment["id"] for comment in self.comments), default=100)
        page = f"https://github.com/{REPOSITORY}/pull/7#issuecomment-{number}"
        self.comments.append({"id": number, "body": body, "user": user, "html_url": page})
        return self.comments[-1]

    @property
    def me(self) -> dict[str, str]:
        return {"login": self.login, "type": "User"} if self.login else BOT


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: State

    def _serve(self) -> None:
        state = self.state
        length = int(self.headers.get("Content-Length") or 0)
        data = json.loads(self.rfile.read(length) or b"null")
        state.asked.append((self.command, self.path))
        for planned in state.answers:
            if planned[0] in (self.command, "*"):
                state.answers.remove(planned)
                self._answer(planned[1], planned[3], planned[2])
                return
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, '{"message": "Bad credentials"}')
            return
        status, answer, headers = self._do(data)
        if state.lose and self.command != "GET":
            state.lose -= 1
            self.close_connection = True
            return
        self._answer(status, json.dumps(answer), headers)

    def _do(self, data: Any) -> tuple[int, Any, dict[str, str]]:
        state, parts = self.state, urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/user":
            return (200, state.me, {}) if state.login else (403, {"message": "Not accessible by integration"}, {})
        if parts.path == f"/repos/{REPOSITORY}/pulls":
            return 200, [one for one in state.pulls if one["head"]["label"] == query.get("head")], {}
        if parts.path == f"/repos/{REPOSITORY}/issues/7/comments":
            if self.command == "GET":
                return 200, *self._page(query)
            if len(data["body"]) > 65_536:
                return 422, {"message": "Body is too long"}, {}
            return 201, state.add(data["body"], state.me), {}
        return *self._update(parts.path, data), {}

    def _update(self, path: str, data: Any) -> tuple[int, Any]:
        one = re.fullmatch(rf"/repos/{REPOSITORY}/issues/comments/(\d+)", path)
        found = [comment for comment in self.state.comments if one and comment["id"] == int(one[1])]
        if not found:
            return 404, {"message": "Not Found"}
        if found[0].get("locked"):
            return 403, {"message": "Must have admin rights"}
        found[0]["body"] = data["body"]
        return 200, found[0]

    def _page(self, query: dict[str, str]) -> tuple[list[Any], dict[str, str]]:
        size, page = min(int(query.get("per_page", 30)), 100), int(query.get("page", 1))
        shown = self.state.comments[size * (page - 1) : size * page]
        more = size * page < len(self.state.comments)
        here = f"{self.state.url}{urlsplit(self.path).path}?per_page={size}&page="
        return shown, {"Link": f'<{here}1>; rel="first", <{here}{page + 1}>; rel="next"'} if more else {}

    def _answer(self, status: int, body: str, headers: dict[str, str] | None = None) -> None:
        content = body.encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def github_server() -> Iterator[State]:
    """A server; its URL is in the state."""
    state = State()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    state.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
