"""``gpuperf comment``: the command."""

from __future__ import annotations

import argparse
import os
import re

from pytest_gpuperf.cli.pull_request.github import GitHub
from pytest_gpuperf.errors import GpuperfError, OptionError
from pytest_gpuperf.report.markdown.posted_comment import comment_body

_PULL = re.compile(r"refs/pull/(\d+)/(?:merge|head)")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
#: Far more than the longest report. The file may be an artifact from a fork.
_LARGEST_BYTES = 4 << 20


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = (
        "Post a Markdown report as a comment on a pull request, or update the earlier comment. The token is read from "
        "GITHUB_TOKEN or GH_TOKEN."
    )
    add = parser.add_argument
    add("--file", required=True, metavar="PATH", help="report in Markdown")
    add("--repo", default="", metavar="OWNER/NAME", help="repository (default: $GITHUB_REPOSITORY)")
    which = parser.add_mutually_exclusive_group().add_argument
    which("--pr", type=_number, metavar="N", help="pull request (default: that of the job, by $GITHUB_REF)")
    text = "all open pull requests of this branch; needs --commit"
    which("--head", default="", metavar="OWNER:BRANCH", help=text)
    add("--commit", default="", metavar="SHA", help="with --head: only if the branch is at SHA")
    text = "the report is from a fork: disable its mentions, links and images"
    add("--untrusted", action="store_true", help=text)
    text = "name of this comment, if the pull request gets several; as for gpuperf report"
    add("--marker", default="", metavar="NAME", help=text)
    add("--api", default="", metavar="URL", help="API's URL (default: $GITHUB_API_URL, else https://api.github.com)")
    parser.set_defaults(run=_comment)


def _number(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,9}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r}: write the number of a pull request")
    return int(text)


def _comment(options: argparse.Namespace) -> int:
    text = _read(options.file, follow_links=not options.untrusted)
    body, marker = comment_body(text, trusted=not options.untrusted, name=options.marker)
    variables = os.environ
    github = GitHub(
        options.api or variables.get("GITHUB_API_URL") or "https://api.github.com",
        options.repo or variables.get("GITHUB_REPOSITORY", ""),
        variables.get("GITHUB_TOKEN") or variables.get("GH_TOKEN") or "",
    )
    if options.head:
        numbers = _pull_requests(github, options.head, options.commit)
    else:
        numbers = [options.pr or _number_of_job(variables.get("GITHUB_REF", ""))]
    if not numbers:
        print(f"No open pull request has {options.head} at {options.commit[:8]}; the branch may have new commits.")
    for number in numbers:
        comment = github.put_comment(number, body, marker)
        print(f"{'Commented on' if comment.created else 'Updated the comment on'} pull request {number}: {comment.url}")
    return 0


def _pull_requests(github: GitHub, head: str, commit: str) -> list[int]:
    owner, colon, branch = head.partition(":")
    if not colon or not owner or not branch:
        raise OptionError(f"--head {head}: write OWNER:BRANCH.")
    if not _COMMIT.fullmatch(commit):
        raise OptionError(f"--commit {commit or 'is missing'}: write the full hash of the commit that was measured.")
    return github.pull_requests_of(owner, branch, commit)


def _number_of_job(ref: str) -> int:
    match = _PULL.fullmatch(ref)
    if not match:
        raise OptionError(
            f"Name the pull request with --pr: $GITHUB_REF ({ref or 'not set'}) doesn't belong to a pull request."
        )
    return int(match[1])


def _read(path: str, *, follow_links: bool) -> str:
    # A link in a fork's artifact could name a file of this machine, which would then be published.
    flags = os.O_RDONLY | (0 if follow_links else os.O_NOFOLLOW)
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            content = file.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise GpuperfError(f"The report {path} can't be read: {error}") from error
    if len(content) > _LARGEST_BYTES:
        raise GpuperfError(f"{path} is larger than {_LARGEST_BYTES >> 20} MB, so it can't be a report.")
    if not content.strip():
        raise GpuperfError(f"The report {path} is empty.")
    return content.decode(errors="replace")
