"""Comments on pull requests, through GitHub's REST API.

https://docs.github.com/en/rest/issues/comments and https://docs.github.com/en/rest/pulls/pulls
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException
from typing import Any, TypeVar

from pytest_gpuperf import __version__
from pytest_gpuperf.clock import time
from pytest_gpuperf.errors import GpuperfError, OptionError
from pytest_gpuperf.limits import CONTROL_BYTES, read_within

Result = TypeVar("Result")

_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")
_TIMEOUT_S = 30.0
#: Long enough for a server to restart; a job that waits longer costs more than a comment is worth.
_PAUSES_S = (1.0, 4.0, 15.0)
_LONGEST_PAUSE_S = 60.0
#: Pages of 100 comments, far more than a pull request has.
_MOST_PAGES = 100


class _RequestRefused(GpuperfError):
    """GitHub refused a request, with this HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _TransientFailure(GpuperfError):
    """A request failed and may succeed later.

    Attributes:
        wait_s: Waiting time that the server asks for; None if it asks for none.
    """

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, because the token is meant for one host."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True)
class Comment:
    """A posted comment, which is new or an earlier one that was updated."""

    url: str
    created: bool


class GitHub:
    """The pull requests of a repository.

    Args:
        api: Base URL, for example ``https://api.github.com``.
        repository: Name, as ``owner/name``.

    Raises:
        OptionError: An argument can't be used.
    """

    def __init__(self, api: str, repository: str, token: str, *, pause: Callable[[float], None] = time.sleep) -> None:
        parts = urllib.parse.urlsplit(api)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")):
            raise OptionError(f"--api {api}: write an https URL, because the token is sent there.")
        if not _REPOSITORY.fullmatch(repository):
            raise OptionError(f"--repo {repository}: write OWNER/NAME.")
        if not token or not token.isascii() or not token.isprintable():
            raise OptionError("There is no token for GitHub. Set GITHUB_TOKEN to ${{ github.token }}.")
        self._api, self._repository, self._token, self._pause = api.rstrip("/"), repository, token, pause
        self._opener = urllib.request.build_opener(_NoRedirect)

    def pull_requests_of(self, owner: str, branch: str, commit: str) -> list[int]:
        """Return the open pull requests whose head is a branch at a commit.

        Branch and commit come from GitHub's ``workflow_run`` event, so the pull request's author can't choose them,
        unlike a number in an artifact of the run.

        Raises:
            GpuperfError: GitHub can't be reached, or refuses.
        """
        query = urllib.parse.urlencode({"state": "open", "head": f"{owner}:{branch}", "per_page": 100})
        pulls = self._with_retries(lambda: list(self._pages(f"/repos/{self._repository}/pulls?{query}")))
        return [int(pull["number"]) for pull in pulls if pull.get("head", {}).get("sha") == commit]

    def put_comment(self, number: int, body: str, marker: str) -> Comment:
        """Update the comment that begins with a marker, or create one.

        Raises:
            GpuperfError: GitHub can't be reached, or refuses.
        """
        # A retry starts with the search: a POST whose answer was lost may have created the comment.
        return self._with_retries(lambda: self._put_comment(number, body, marker))

    def _put_comment(self, number: int, body: str, marker: str) -> Comment:
        place = f"/repos/{self._repository}/issues"
        login = self._login()
        for comment in list(self._pages(f"{place}/{number}/comments?per_page=100")):
            if not str(comment.get("body")).lstrip().startswith(marker) or not _is_by(comment, login):
                continue
            try:
                updated = self._call("PATCH", f"{place}/comments/{int(comment['id'])}", {"body": body})
            except _RequestRefused as error:
                if error.status in (403, 404, 410):
                    continue  # of another bot, or deleted meanwhile
                raise
            return Comment(str(updated.get("html_url", "")), created=False)
        return Comment(str(self._call("POST", f"{place}/{number}/comments", {"body": body}).get("html_url", "")), True)

    def _login(self) -> str | None:
        """Return the user that the token belongs to; None for an app's token, which may not ask."""
        try:
            return str(self._call("GET", "/user").get("login"))
        except _RequestRefused as error:
            if error.status in (403, 404):
                return None
            raise

    def _pages(self, path: str) -> Iterator[Mapping[str, Any]]:
        page: str | None = path
        for _ in range(_MOST_PAGES):
            if page is None:
                return
            headers, items = self._open("GET", page, None)
            if not isinstance(items, list):
                raise GpuperfError(f"{self._api}{path} did not answer with a list.")
            yield from items
            page = self._next(headers.get("Link") or "")

    def _next(self, link: str) -> str | None:
        """Return the next page by ``Link: <URL>; rel="next"``, but only on the host that the token is meant for."""
        match = re.search(r'<([^<>]+)>\s*;[^,<]*rel="next"', link)
        return match[1].removeprefix(self._api) if match and match[1].startswith(f"{self._api}/") else None

    def _call(self, method: str, path: str, data: Mapping[str, Any] | None = None) -> dict[str, Any]:
        _, answer = self._open(method, path, data)
        return answer if isinstance(answer, dict) else {}

    def _open(self, method: str, path: str, data: Mapping[str, Any] | None) -> tuple[Mapping[str, str], Any]:
        request = urllib.request.Request(
            self._api + path,
            method=method,
            data=None if data is None else json.dumps(data).encode(),
            headers={
                "Authorization": f"Bearer {self._token}",
                "Accept": "application/vnd.github+json",
                "X-GitHub-Api-Version": "2022-11-28",
                "User-Agent": f"pytest-gpuperf/{__version__}",
                "Content-Type": "application/json",
            },
        )
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
                return answer.headers, json.loads(read_within(answer.read, CONTROL_BYTES, "the answer") or b"null")
        except urllib.error.HTTPError as error:
            with error:
                raise _failure(error, f"{method} {self._api}{path}") from error
        except (OSError, HTTPException) as error:
            raise _TransientFailure(f"{self._api} can't be reached: {error}") from error
        except ValueError as error:
            raise _TransientFailure(f"{self._api}{path} did not answer in JSON: {error}") from error

    def _with_retries(self, request: Callable[[], Result]) -> Result:
        for pause_s in _PAUSES_S:
            try:
                return request()
            except _TransientFailure as error:
                if error.wait_s is not None and error.wait_s > _LONGEST_PAUSE_S:
                    raise
                self._pause(max(pause_s, error.wait_s or 0.0))
        return request()


def _is_by(comment: Mapping[str, Any], login: str | None) -> bool:
    """Return whether the token's user wrote a comment. Anybody can write the marker, so the marker is not enough."""
    user = comment.get("user") or {}
    return bool(user.get("type") == "Bot" if login is None else user.get("login") == login)


def _failure(error: urllib.error.HTTPError, request: str) -> _RequestRefused | _TransientFailure:
    try:
        reason = str(json.loads(read_within(error.read, CONTROL_BYTES, "the answer"))["message"])[:500]
    except (ValueError, KeyError, TypeError, OSError):
        reason = str(error.reason)
    message = f"GitHub answered {error.code} ({reason}) to {request}."
    limited = error.headers.get("X-RateLimit-Remaining") == "0" or error.headers.get("Retry-After") is not None
    if error.code >= 500 or error.code == 429 or (error.code == 403 and limited):
        return _TransientFailure(message, _wait_s(error.headers))
    hints = {
        401: "The token is not valid, or has expired.",
        403: "The token lacks the permission: give the job `permissions: pull-requests: write`. A fork's pull request "
        "never gets it; comment from a workflow_run (docs/ci.md).",
        404: "Check the repository, the number of the pull request, and the token's read access.",
    }
    if 300 <= error.code < 400:
        hints[error.code] = "Was the repository renamed? Give its new name."
    return _RequestRefused(error.code, "\n".join(filter(None, (message, hints.get(error.code)))))


def _wait_s(headers: Message) -> float | None:
    """Return how long the server asks to wait: by ``Retry-After``, or until an exhausted rate limit is reset."""
    origins = {"Retry-After": 0.0}
    if headers.get("X-RateLimit-Remaining") == "0":  # every answer has the time of the reset
        origins["X-RateLimit-Reset"] = time.time()
    for name, origin in origins.items():
        text = headers.get(name) or ""
        if text.isdecimal():
            return max(float(text) - origin, 0.0)
    return None
