"""Comments on pull requests, through GitHub's REST API.

https://docs.github.com/en/rest/issues/comments and https://docs.github.com/en/rest/pulls/pulls
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException
from typing import Any, TypeVar

from pytest_gpuperf import __version__
from pytest_gpuperf.errors import GpuperfError, OptionError

Result = TypeVar("Result")

_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")
_TIMEOUT_S = 30.0
#: A server that is restarted is back within them; a job that waits longer costs more than a comment is worth.
_PAUSES_S = (1.0, 4.0, 15.0)
_LONGEST_PAUSE_S = 60.0
#: Ten thousand comments; a pull request has fewer.
_MOST_PAGES = 100


class _Refused(GpuperfError):
    """GitHub answered with an error.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Transient(GpuperfError):
    """It may work in a moment.

    Attributes:
        wait_s: as the server asks; None when it doesn't.
    """

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token is for this host and nobody else."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True)
class Comment:
    """A comment that is there now.

    Attributes:
        url: for people.
        created: it is new, and not an older one that was updated.
    """

    url: str
    created: bool


class GitHub:
    """One repository.

    Args:
        api: for example ``https://api.github.com``.
        repository: ``owner/name``.
        pause: waits for so many seconds.

    Raises:
        OptionError: one of them can't be used as written.
    """

    def __init__(self, api: str, repository: str, token: str, *, pause: Callable[[float], None] = time.sleep) -> None:
        parts = urllib.parse.urlsplit(api)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")):
            raise OptionError(f"--api {api}: write an https URL, since the token is sent there.")
        if not _REPOSITORY.fullmatch(repository):
            raise OptionError(f"--repo {repository}: write OWNER/NAME.")
        if not token or not token.isascii() or not token.isprintable():
            raise OptionError("There is no token to write the comment with. Set GITHUB_TOKEN (${{ github.token }}).")
        self._api, self._repository, self._token, self._pause = api.rstrip("/"), repository, token, pause
        self._opener = urllib.request.build_opener(_NoRedirect)

    def pull_requests_of(self, owner: str, branch: str, commit: str) -> list[int]:
        """The open pull requests whose head is a branch at a commit.

        What a ``workflow_run`` says of the run that started it is not from the pull request's author, unlike a number
        in an artifact of that run.

        Raises:
            GpuperfError: GitHub can't be asked.
        """
        query = urllib.parse.urlencode({"state": "open", "head": f"{owner}:{branch}", "per_page": 100})
        found = self._patiently(lambda: list(self._pages(f"/repos/{self._repository}/pulls?{query}")))
        return [int(one["number"]) for one in found if one.get("head", {}).get("sha") == commit]

    def put_comment(self, number: int, body: str, marker: str) -> Comment:
        """Update the comment that begins with this marker, or write a new one.

        Raises:
            GpuperfError: GitHub can't be reached, or refuses.
        """
        # Tried again as a whole: a POST whose answer was lost may have worked, and is found as a comment then.
        return self._patiently(lambda: self._put_comment(number, body, marker))

    def _put_comment(self, number: int, body: str, marker: str) -> Comment:
        place = f"/repos/{self._repository}/issues"
        me = self._login()
        for comment in list(self._pages(f"{place}/{number}/comments?per_page=100")):
            if not str(comment.get("body")).lstrip().startswith(marker) or not _is_by(comment, me):
                continue
            try:
                updated = self._call("PATCH", f"{place}/comments/{int(comment['id'])}", {"body": body})
            except _Refused as error:
                if error.status in (403, 404, 410):
                    continue  # another bot's, or deleted meanwhile
                raise
            return Comment(str(updated.get("html_url", "")), created=False)
        return Comment(str(self._call("POST", f"{place}/{number}/comments", {"body": body}).get("html_url", "")), True)

    def _login(self) -> str | None:
        """Whose the token is; None for an app's, which may not ask."""
        try:
            return str(self._call("GET", "/user").get("login"))
        except _Refused as error:
            if error.status in (403, 404):
                return None
            raise

    def _pages(self, path: str) -> Iterator[Mapping[str, Any]]:
        page: str | None = path
        for _ in range(_MOST_PAGES):
            if page is None:
                return
            headers, found = self._open("GET", page, None)
            if not isinstance(found, list):
                raise GpuperfError(f"{self._api}{path} did not answer with a list.")
            yield from found
            page = self._next(headers.get("Link") or "")

    def _next(self, link: str) -> str | None:
        """The next page, by ``Link: <URL>; rel="next"``; only on the host that the token is for."""
        found = re.search(r'<([^<>]+)>\s*;[^,<]*rel="next"', link)
        return found[1].removeprefix(self._api) if found and found[1].startswith(f"{self._api}/") else None

    def _call(self, method: str, path: str, data: Mapping[str, Any] | None = None) -> dict[str, Any]:
        _, found = self._open(method, path, data)
        return found if isinstance(found, dict) else {}

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
                return answer.headers, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                raise _problem(error, f"{method} {self._api}{path}") from error
        except (OSError, HTTPException) as error:
            raise _Transient(f"{self._api} can't be reached: {error}") from error
        except ValueError as error:
            raise _Transient(f"{self._api}{path} did not answer in JSON: {error}") from error

    def _patiently(self, ask: Callable[[], Result]) -> Result:
        for pause_s in _PAUSES_S:
            try:
                return ask()
            except _Transient as error:
                if error.wait_s is not None and error.wait_s > _LONGEST_PAUSE_S:
                    raise
                self._pause(max(pause_s, error.wait_s or 0.0))
        return ask()


def _is_by(comment: Mapping[str, Any], me: str | None) -> bool:
    """Whether a comment is ours: anybody can write the marker, and would have us fill their comment."""
    user = comment.get("user") or {}
    return bool(user.get("type") == "Bot" if me is None else user.get("login") == me)


def _problem(error: urllib.error.HTTPError, asked: str) -> _Refused | _Transient:
    try:
        said = str(json.loads(error.read())["message"])[:500]
    except (ValueError, KeyError, TypeError, OSError):
        said = str(error.reason)
    message = f"GitHub answered {error.code} ({said}) to {asked}."
    limited = error.headers.get("X-RateLimit-Remaining") == "0" or error.headers.get("Retry-After") is not None
    if error.code >= 500 or error.code == 429 or (error.code == 403 and limited):
        return _Transient(message, _wait_s(error.headers))
    hints = {
        401: "The token is not valid, or has expired.",
        403: "The token may not do that: give the job `permissions: pull-requests: write`. In the run of a fork's pull "
        "request it never may; comment from a workflow_run (docs/ci.md).",
        404: "Is it the right repository and pull request, and may the token read it?",
    }
    if 300 <= error.code < 400:
        hints[error.code] = "Was the repository renamed? Name it as it is called now."
    return _Refused(error.code, "\n".join(filter(None, (message, hints.get(error.code)))))


def _wait_s(headers: Message) -> float | None:
    """How long the server asks to wait, by ``Retry-After`` or, where nothing is left, the moment its limit is reset."""
    known = [("Retry-After", 0.0)]
    if headers.get("X-RateLimit-Remaining") == "0":  # the reset is in every answer
        known.append(("X-RateLimit-Reset", time.time()))
    for name, beginning in known:
        text = headers.get(name) or ""
        if text.isdecimal():
            return max(float(text) - beginning, 0.0)
    return None
