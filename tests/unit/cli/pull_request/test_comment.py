from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_gpuperf.cli.main import main
from pytest_gpuperf.cli.pull_request.github import GitHub
from pytest_gpuperf.errors import GpuperfError, OptionError
from tests.unit.cli.pull_request.github_server import BOT, REPOSITORY, TOKEN, State, github_server

MARKER = "<!-- gpuperf report -->"
REPORT = f"{MARKER}\n## regressed\n\nby 5%"
SHA = "1234567890" * 4


@pytest.fixture
def server() -> Iterator[State]:
    with github_server() as state:
        yield state


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def github(server: State, pauses: list[float]) -> GitHub:
    return GitHub(server.url, REPOSITORY, TOKEN, pause=pauses.append)


@pytest.fixture(autouse=True)
def job(monkeypatch: pytest.MonkeyPatch, server: State, tmp_path: Path) -> None:
    """What a job of GitHub Actions is told."""
    for name, value in {
        "GITHUB_API_URL": server.url,
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_TOKEN": TOKEN,
        "GITHUB_REF": "refs/pull/7/merge",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "comment.md").write_text(REPORT)


def bodies(server: State) -> list[str]:
    return [comment["body"] for comment in server.comments]


# In place


def test_the_first_report_creates_the_comment_and_later_ones_update_it(
    server: State, capsys: pytest.CaptureFixture[str]
) -> None:
    server.add("a person speaks", {"login": "ada", "type": "User"})
    assert main(["comment", "--file", "comment.md"]) == 0
    assert capsys.readouterr().out.startswith("Commented on pull request 7: https://github.com/team/code/pull/7#")
    Path("comment.md").write_text(REPORT.replace("5%", "6%"))
    assert main(["comment", "--file", "comment.md", "--pr", "7"]) == 0
    assert capsys.readouterr().out.startswith("Updated the comment on pull request 7: ")
    assert bodies(server) == ["a person speaks", REPORT.replace("5%", "6%")]


def test_a_report_without_a_marker_gets_one(server: State) -> None:
    for text in ("slower", "faster"):
        Path("comment.md").write_text(text)
        assert main(["comment", "--file", "comment.md"]) == 0
    assert bodies(server) == ["<!-- gpuperf -->\nfaster"]


def test_two_jobs_with_the_same_report_have_comments_of_their_own(server: State) -> None:
    for name in ("L4", "A10G", "L4"):
        assert main(["comment", "--file", "comment.md", "--marker", name]) == 0
        assert main(["comment", "--file", "comment.md", "--marker", f"fork {name}", "--untrusted"]) == 0
    markers = [body.splitlines()[0] for body in bodies(server)]
    assert markers == [f"<!-- pytest-gpuperf report {name} -->" for name in ("L4", "fork L4", "A10G", "fork A10G")]
    assert not any(MARKER in body for body in bodies(server))


def test_a_comment_that_only_mentions_the_marker_is_not_ours(server: State, github: GitHub) -> None:
    other = f"<!-- gpuperf other -->\n`{MARKER}`"
    github.put_comment(7, other, "<!-- gpuperf other -->")
    github.put_comment(7, f"{MARKER}\nx", MARKER)
    assert bodies(server) == [other, f"{MARKER}\nx"]


def test_two_reports_have_comments_of_their_own(server: State, github: GitHub) -> None:
    for marker in ("<!-- gpuperf L4 -->", "<!-- gpuperf A10 -->") * 2:
        github.put_comment(7, f"{marker}\nx", marker)
    assert bodies(server) == ["<!-- gpuperf L4 -->\nx", "<!-- gpuperf A10 -->\nx"]


def test_the_comment_is_found_among_hundreds(server: State, github: GitHub) -> None:
    for index in range(250):
        server.add(f"comment {index}", BOT)
    server.add(REPORT, BOT)
    assert not github.put_comment(7, f"{MARKER}\nnew", MARKER).created
    assert len(server.comments) == 251
    assert [path.rpartition("=")[2] for method, path in server.asked if method == "GET"][1:] == ["100", "2", "3"]


@pytest.mark.parametrize("login", [None, "robot-of-the-team"])
def test_a_comment_of_another_user_with_the_marker_is_kept(server: State, github: GitHub, login: str | None) -> None:
    server.login = login
    server.add(f"{MARKER} fill this for me", {"login": "mallory", "type": "User"})
    for _ in range(2):
        github.put_comment(7, REPORT, MARKER)
    assert bodies(server) == [f"{MARKER} fill this for me", REPORT]


def test_another_bots_comment_can_not_be_updated(server: State, github: GitHub) -> None:
    server.add(REPORT, BOT)["locked"] = True
    assert github.put_comment(7, REPORT, MARKER).created


def test_a_comment_that_is_deleted_meanwhile_is_written_anew(server: State, github: GitHub) -> None:
    server.add(REPORT, BOT)
    server.answers.append(("PATCH", 404, {}, '{"message": "Not Found"}'))
    assert github.put_comment(7, REPORT, MARKER).created


# Failures


@pytest.mark.parametrize(
    ("answer", "least_s"),
    [
        (("GET", 502, {}), 1.0),
        (("POST", 500, {}), 1.0),
        (("GET", 429, {"Retry-After": "7"}), 7.0),
        (("POST", 403, {"Retry-After": "3"}), 3.0),
        (("POST", 403, {"X-RateLimit-Remaining": "0"}), 1.0),
        (("GET", 503, {"X-RateLimit-Remaining": "4990", "X-RateLimit-Reset": str(int(time.time()) + 1800)}), 1.0),
        (("GET", 429, {"X-RateLimit-Remaining": "4990", "X-RateLimit-Reset": str(int(time.time()) + 40)}), 1.0),
    ],
)
def test_transient_failures_are_retried(
    server: State, github: GitHub, pauses: list[float], answer: tuple[str, int, dict[str, str]], least_s: float
) -> None:
    server.answers.append((*answer, '{"message": "busy"}'))
    assert github.put_comment(7, REPORT, MARKER).created
    assert pauses == [least_s]
    assert bodies(server) == [REPORT]


def test_an_answer_that_is_lost_makes_no_second_comment(server: State, github: GitHub, pauses: list[float]) -> None:
    server.lose = 1
    assert not github.put_comment(7, REPORT, MARKER).created
    assert bodies(server) == [REPORT]
    assert pauses == [1.0]


def test_permanent_failures_are_not_retried(server: State, github: GitHub, pauses: list[float]) -> None:
    server.answers += [("GET", 503, {}, "<html>")] * 9
    with pytest.raises(GpuperfError, match=r"GitHub answered 503 \(Service Unavailable\)"):
        github.put_comment(7, REPORT, MARKER)
    assert pauses == [1.0, 4.0, 15.0]
    server.answers[:] = [
        ("GET", 403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 3000)}, "{}")
    ]
    with pytest.raises(GpuperfError, match="403"):
        github.put_comment(7, REPORT, MARKER)
    assert len(pauses) == 3


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, "pull-requests: write"),
        (404, "Check the repository"),
        (401, "not valid"),
        (307, "renamed"),
        (422, "too long"),
    ],
)
def test_refusals_say_what_to_do(server: State, status: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers.append(("POST", status, {"Location": "http://localhost:1/"}, '{"message": "too long"}'))
    assert main(["comment", "--file", "comment.md"]) == 1
    error = capsys.readouterr().err
    assert f"GitHub answered {status} (too long) to POST {server.url}/repos/team/code/issues/7/comments." in error
    assert message in error
    assert TOKEN not in error


def test_a_link_to_another_host_is_not_followed(server: State, github: GitHub) -> None:
    elsewhere = {"Link": '<https://elsewhere.example/x>; rel="next"'}
    server.login = "robot"
    server.answers += [("GET", 200, {}, '{"login": "robot"}'), ("GET", 200, elsewhere, "[]")]
    assert github.put_comment(7, REPORT, MARKER).created


def test_an_unreachable_server_is_an_error(pauses: list[float]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(GpuperfError, match=f"{url} can't be reached"):
        GitHub(url, REPOSITORY, TOKEN, pause=pauses.append).put_comment(7, REPORT, MARKER)
    assert len(pauses) == 3


# Which pull request


def test_pull_requests_are_chosen_by_the_branch_of_a_fork(server: State, capsys: pytest.CaptureFixture[str]) -> None:
    branch = "fix;$(touch x)&head=evil:main#é"
    for number, sha in ((7, SHA), (8, "f" * 40)):
        server.pulls.append({"number": number, "head": {"label": f"forker:{branch}", "sha": sha}})
    assert main(["comment", "--file", "comment.md", "--head", f"forker:{branch}", "--commit", SHA]) == 0
    assert bodies(server) == [REPORT]
    capsys.readouterr()
    assert main(["comment", "--file", "comment.md", "--head", f"forker:{branch}", "--commit", "a" * 40]) == 0
    text = capsys.readouterr().out
    assert text.startswith("No open pull request has forker:")
    assert " at aaaaaaaa; " in text
    assert len(server.comments) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--head", "main", "--commit", SHA], "write OWNER:BRANCH"),
        (["--head", "a:b"], "--commit is missing"),
        (["--head", "a:b", "--commit", "HEAD"], "write the full hash"),
        (["--repo", "code"], "write OWNER/NAME"),
        (["--repo", "team/code/../../x"], "write OWNER/NAME"),
        (["--api", "http://example.org"], "write an https URL"),
        (["--file", "nothing.md"], "can't be read"),
        (["--file", "/dev/null"], "is empty"),
        (["--file", "/dev/zero"], "larger than 4 MB"),
    ],
)
def test_wrong_options_are_reported_before_any_request(
    server: State, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["comment", "--file", "comment.md", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert server.asked == []


@pytest.mark.parametrize(("name", "message"), [("GITHUB_REF", "--pr"), ("GITHUB_TOKEN", "GITHUB_TOKEN")])
def test_outside_of_a_job(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(name)
    monkeypatch.delenv("GH_TOKEN", raising=False)
    assert main(["comment", "--file", "comment.md"]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("number", ["0", "x", "7;id", "\u0667", "-1"])
def test_wrong_pull_request_numbers_are_refused(number: str) -> None:
    with pytest.raises(SystemExit):
        main(["comment", "--file", "comment.md", "--pr", number])


def test_a_token_with_a_line_break_is_refused() -> None:
    with pytest.raises(OptionError, match="no token"):
        GitHub("https://api.github.com", REPOSITORY, "a\r\nX: b")


def test_a_link_in_an_artifact_is_not_published(
    tmp_path: Path, server: State, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_text("s3cr3t")
    (tmp_path / "link.md").symlink_to(tmp_path / "secret")
    assert main(["comment", "--untrusted", "--file", "link.md"]) == 1
    assert "can't be read" in capsys.readouterr().err
    assert server.comments == []


def test_a_forks_report_mentions_nobody(server: State) -> None:
    Path("comment.md").write_text("<!-- gpuperf mine -->\n@everybody")
    assert main(["comment", "--untrusted", "--file", "comment.md"]) == 0
    (body,) = bodies(server)
    assert body.startswith("<!-- gpuperf -->\n> Written by code from a fork")
    assert "@everybody" not in body
