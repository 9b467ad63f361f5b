from __future__ import annotations

import base64
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest

from pytest_gpuperf.errors import OptionError, StoreError
from pytest_gpuperf.store import Calibration, Store, Synced, pull, push, select_baseline, write_calibration
from pytest_gpuperf.store.branch import Branch
from pytest_gpuperf.store.layout import ACCEPTED
from tests.unit.factories import KEY, record
from tests.unit.store.remotes import clone_of, git, origin_in, snapshot

BRANCH = "gpuperf-baselines"


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner's git: nothing is configured, nobody has a name."""
    for name in list(os.environ):
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    return origin_in(tmp_path)


class Runner:
    """A machine of CI: a clone with a store in it."""

    def __init__(self, origin: Path, *options: str, name: str = "clone") -> None:
        self.place = clone_of(origin, origin.parent / name, *options)
        self.store = Store(str(self.place / ".gpuperf"))

    def measure(self, *names: str, gate: str = "passed") -> None:
        for name in names:
            self.store.write(record(name=name, minute=int(name[1:]), gate=gate))

    def push(self, branch: str = BRANCH, pause: Callable[[float], None] = time.sleep) -> Synced:
        return push(self.store, self.place, branch, pause=pause)

    def pull(self, **options: str) -> Synced:
        return pull(self.store, self.place, **options)

    def ids(self) -> list[str]:
        return sorted(file.id for folder in self.store.folders() for file in self.store.newest(folder))


@pytest.fixture
def runner(origin: Path) -> Callable[..., Runner]:
    return lambda name, *options: Runner(origin, *options, name=name)


def branch_files(origin: Path) -> list[str]:
    return git(origin, "ls-tree", "-r", "--name-only", BRANCH).splitlines()


def contents(store: Store) -> dict[str, bytes]:
    root = Path(store.url)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# There and back


def test_what_is_pushed_is_pulled_byte_for_byte(runner: Callable[..., Runner], origin: Path) -> None:
    one, other = runner("one"), runner("other")
    one.measure("s1", "s2", "s3")
    one.store.accept(one.store.find("s1"), "meant")
    one.store.pin(one.store.find("s2"), "release")
    write_calibration(one.store, Calibration("NVIDIA L4", {"p50": 0.01}, {"p50": 9.0}, 10, ("t",)))
    assert one.push() == Synced(branch_missing=True, records=3, notes=3, attempts=1)
    assert other.pull() == Synced(records=3, notes=3)
    assert contents(other.store) == contents(one.store)
    assert [found.id for found in select_baseline(other.store, KEY).records] == ["s3", "s2", "s1"]
    assert one.push() == Synced(known=3)
    assert other.pull() == Synced(known=3)
    assert len(git(origin, "rev-list", BRANCH).splitlines()) == 1
    assert "code.py" not in branch_files(origin)


def test_two_may_accept_the_same_record(runner: Callable[..., Runner]) -> None:
    one, other = runner("one"), runner("other")
    one.measure("s1", gate="failed")
    one.push()
    other.pull()
    for who, runner_of in (("Ada", one), ("Bob", other)):
        runner_of.store.accept(runner_of.store.find("s1"), f"{who}'s reason", who)
    assert one.push() == Synced(notes=1, known=1, attempts=1)
    assert other.pull() == other.push() == Synced(known=1)
    acceptance = other.store.acceptance(other.store.find("s1"))
    assert acceptance is not None
    assert acceptance.author == "Bob"


def test_the_first_run_finds_no_branch(runner: Callable[..., Runner]) -> None:
    assert runner("one").pull() == Synced(branch_missing=True)


@pytest.mark.parametrize(
    "options",
    [(), ("--depth=1",), ("--no-checkout",), ("--filter=blob:none",)],
    ids=["full", "shallow", "empty", "partial"],
)
def test_the_users_repository_stays_as_it_is(
    runner: Callable[..., Runner], options: tuple[str, ...], origin: Path
) -> None:
    one = runner("one", *options)
    git(one.place, "checkout", "--quiet", "--detach")
    (one.place / "code.py").write_text("half a change\n")
    (one.place / "staged.py").write_text("more\n")
    git(one.place, "add", "staged.py")
    one.measure("s1")
    before = snapshot(one.place)
    one.push()
    other = runner("other")
    other.measure("s2")
    other.push()
    assert one.pull().records == 1
    one.push()
    assert snapshot(one.place) == before
    assert git(origin, "log", "-1", "--format=%cn", "main") == "Ada"


def test_without_a_name_whoever_started_the_job_commits(
    runner: Callable[..., Runner], origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTOR", "octo <cat>\n")
    one = runner("one")
    one.measure("s1")
    one.push()
    assert (
        git(origin, "log", "-1", "--format=%cn|%ce|%s", BRANCH)
        == "octo  cat|gpuperf@localhost|Records: 1, notes: 0, pruned: 0"
    )
    git(one.place, "config", "user.name", "Bob")
    git(one.place, "config", "user.email", "bob@example.org")
    one.measure("s2")
    one.push()
    assert git(origin, "log", "-1", "--format=%cn|%ce", BRANCH) == "Bob|bob@example.org"


def test_from_a_folder_below_in_a_hook_and_by_url(
    runner: Callable[..., Runner], origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = runner("one")
    one.measure("s1")
    (one.place / "deep").mkdir()
    monkeypatch.setenv("GIT_DIR", str(origin.parent / "nowhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(origin.parent / "index"))
    assert push(one.store, one.place / "deep", remote=str(origin)).records == 1
    git(one.place, "remote", "set-url", "origin", "../origin.git")
    assert one.push() == Synced(known=1)


def test_repositories_of_the_other_digest(tmp_path: Path) -> None:
    one = Runner(origin_in(tmp_path, "--object-format=sha256"))
    one.measure("s1")
    assert one.push().records == 1
    assert one.push() == Synced(known=1)


def test_any_store_can_be_pushed(runner: Callable[..., Runner], tmp_path: Path) -> None:
    one = runner("one")
    memory = Store(f"memory://push-{tmp_path.name}")
    memory.write(record(name="s1"))
    assert push(memory, one.place).records == 1
    assert pull(Store(f"memory://pull-{tmp_path.name}"), one.place).records == 1


# Several at once


def _push(place: Path, number: int, start: Path) -> None:
    store = Store(str(place / ".gpuperf"))
    store.write(record(name=f"s{number}", minute=number))
    while not start.exists():
        time.sleep(0.005)
    done = push(store, place)
    assert done.records == 1


@pytest.mark.parametrize("count", [2, 8])
def test_all_who_push_at_once_get_through(origin: Path, tmp_path: Path, count: int) -> None:
    places = [clone_of(origin, tmp_path / f"clone{number}", "--depth=1") for number in range(count)]
    start = tmp_path / "start"
    spawn = multiprocessing.get_context("fork")
    pushers = [spawn.Process(target=_push, args=(place, number, start)) for number, place in enumerate(places)]
    for pusher in pushers:
        pusher.start()
    start.touch()
    for pusher in pushers:
        pusher.join(120)
    assert [pusher.exitcode for pusher in pushers] == [0] * count
    last = Runner(origin, name="last")
    assert last.pull().records == count
    assert last.ids() == sorted(f"s{number}" for number in range(count))
    assert len(git(origin, "rev-list", "--first-parent", BRANCH).splitlines()) == count


def slow(origin: Path, script: str, name: str = "pre-receive") -> None:
    hook = origin / "hooks" / name
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\n{script}\n")
    hook.chmod(hook.stat().st_mode | stat.S_IXUSR)


def test_a_push_that_is_killed_changes_nothing(runner: Callable[..., Runner], origin: Path, tmp_path: Path) -> None:
    one, other = runner("one"), runner("other")
    one.measure("s1")
    one.push()
    one.measure("s2")
    before = snapshot(one.place), git(origin, "rev-parse", BRANCH)
    slow(origin, f"touch '{tmp_path}/inside'; sleep 30")
    command = [sys.executable, "-m", "pytest_gpuperf.cli.main", "baseline", "push"]
    process = subprocess.Popen(command, cwd=one.place, start_new_session=True)
    while not (tmp_path / "inside").exists():
        assert process.poll() is None
        time.sleep(0.01)
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # git's helpers end by themselves when others are killed
            child.kill()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (origin / "hooks" / "pre-receive").unlink()
    assert (snapshot(one.place), git(origin, "rev-parse", BRANCH)) == before
    assert other.pull().records == 1
    assert one.push().records == 1


def test_a_push_that_is_overtaken_comes_again(
    runner: Callable[..., Runner], origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = runner("one"), runner("other")
    one.measure("s1")
    other.measure("s2")
    pauses: list[float] = []
    faster = [other]
    committer = Branch._committer

    def overtake(self: Branch) -> str:  # between the fetch and the push
        if faster:
            faster.pop().push()
        return committer(self)

    monkeypatch.setattr(Branch, "_committer", overtake)
    assert one.push(pause=pauses.append) == Synced(records=1, attempts=2)
    assert len(pauses) == 1
    assert 0 <= pauses[0] <= 0.4
    assert {Path(path).name.split("-")[-1] for path in branch_files(origin)[1:]} == {"s1.json", "s2.json"}


def test_it_does_not_try_for_ever(runner: Callable[..., Runner], origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("pytest_gpuperf.store.git_branch.MOST_ATTEMPTS", 3)
    one = runner("one")
    one.measure("s1")
    slow(origin, "echo 'cannot lock ref' >&2; exit 1")
    with pytest.raises(StoreError, match="Others pushed to gpuperf-baselines on origin during each of 3 attempts"):
        one.push(pause=pauses.append)
    assert len(pauses) == 3


# Refused


def test_a_server_that_refuses_is_not_asked_again(runner: Callable[..., Runner], origin: Path) -> None:
    one = runner("one")
    one.measure("s1")
    slow(origin, "echo tried >> $GIT_DIR/tries; echo 'branch is protected' >&2; exit 1")
    with pytest.raises(StoreError, match=r"(?s)can't be pushed.*branch is protected.*contents: write"):
        one.push()
    assert (origin / "tries").read_text().count("tried") == 1


def test_a_branch_of_code_is_left_alone(runner: Callable[..., Runner], origin: Path) -> None:
    one = runner("one")
    one.measure("s1")
    before = git(origin, "rev-parse", "main")
    for action in (one.push, one.pull):
        with pytest.raises(StoreError, match="The branch main of origin is not a store"):
            action(branch="main")
    assert git(origin, "rev-parse", "main") == before


@pytest.mark.parametrize("name", ["a..b", "-x", "", "a b", "x.lock"])
def test_names_that_no_branch_has(runner: Callable[..., Runner], name: str) -> None:
    with pytest.raises(OptionError, match="git does not allow this name"):
        runner("one").pull(branch=name)


@pytest.mark.parametrize("name", ["", "--upload-pack=touch"])
def test_names_that_no_remote_has(runner: Callable[..., Runner], name: str) -> None:
    with pytest.raises(OptionError, match="write the name of a remote"):
        runner("one").pull(remote=name)


def test_remotes_that_are_not_there(runner: Callable[..., Runner], tmp_path: Path) -> None:
    one = runner("one")
    for remote in ("upstream", str(tmp_path / "nothing.git")):
        with pytest.raises(StoreError, match=r"(?s)can't be fetched.*right remote"):
            one.pull(remote=remote)
    (tmp_path / "outside").mkdir()
    with pytest.raises(StoreError, match="not inside a git repository"):
        pull(one.store, tmp_path / "outside")


def test_without_git(runner: Callable[..., Runner], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one = runner("one")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreError, match="git can't be run"):
        one.pull()


# Secrets


class _Guarded(BaseHTTPRequestHandler):
    """A server that lets nobody in, and remembers what it was told."""

    told: list[str]

    def do_GET(self) -> None:
        self.told.append(self.headers.get("Authorization", ""))
        self.send_response(401 if not self.told[-1] else 403)
        self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.mark.parametrize("place", ["url", "option", "header", "include", "rewritten", "variables"])
def test_tokens_are_used_and_never_shown(
    runner: Callable[..., Runner],
    tmp_path: Path,
    place: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Guarded", (_Guarded,), {"told": told}))
    Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_port}"
    basic = base64.b64encode(b"x-access-token:S3CR3T").decode()
    one = runner("one")
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))
    url = f"http://{host}/team/code.git"
    remote = "origin"
    if place == "url":
        url = f"http://x-access-token:S3CR3T@{host}/team/code.git"
    elif place == "option":
        remote = f"http://x-access-token:p@S3CR3T@{host}/team/code.git"  # git alone refuses the first @
        basic = base64.b64encode(b"x-access-token:p@S3CR3T").decode()
    elif place == "header":  # as actions/checkout leaves it
        git(one.place, "config", f"http.http://{host}/.extraheader", f"AUTHORIZATION: basic {basic}")
    elif place == "include":  # as its later versions do
        (tmp_path / "secret").write_text(f'[http "http://{host}/"]\n\textraheader = AUTHORIZATION: basic {basic}\n')
        git(one.place, "config", f"includeIf.gitdir:{one.place}/.git.path", str(tmp_path / "secret"))
    elif place == "variables":  # as our action does, also where the checkout has left another one
        git(one.place, "config", f"http.http://{host}/.extraheader", "AUTHORIZATION: basic old")
        for number, value in enumerate(("", f"AUTHORIZATION: basic {basic}")):
            monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", f"http.http://{host}/.extraheader")
            monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
        monkeypatch.setenv("GIT_CONFIG_COUNT", "2")
    else:
        git(one.place, "config", f"url.http://x-access-token:S3CR3T@{host}/.insteadOf", f"http://{host}/")
    git(one.place, "remote", "set-url", "origin", url)
    try:
        with pytest.raises(StoreError) as caught:
            one.pull(remote=remote)
    finally:
        server.shutdown()
        server.server_close()
    assert f"Basic {basic}".lower() in [header.lower() for header in told]
    captured = capfd.readouterr()
    command_lines = (tmp_path / "trace").read_text()
    for text in (str(caught.value), captured.out, captured.err, command_lines):
        assert "S3CR3T" not in text
        assert basic not in text
    assert host in str(caught.value)


# Pruning


def test_what_one_prunes_is_gone_from_all(runner: Callable[..., Runner], origin: Path) -> None:
    one, other = runner("one"), runner("other")
    one.measure("s1", "s2", "s3")
    one.store.accept(one.store.find("s1"), "meant")
    one.push()
    other.pull()
    folder = one.store.folder(KEY)
    one.store.delete(folder, [one.store.find("s1")], "old")
    assert one.push() == Synced(notes=1, known=2, deleted=1, attempts=1)
    assert not [path for path in branch_files(origin) if "-s1.json" in path]
    other.measure("s4")
    assert other.push() == Synced(records=1, known=2, attempts=1)
    assert other.pull() == Synced(notes=1, known=3, deleted=1)
    assert other.ids() == ["s2", "s3", "s4"]
    assert [pruning.reason for pruning in other.store.prunings(folder)] == ["old"]
    assert one.pull().records == 1
    assert one.ids() == ["s2", "s3", "s4"]


@pytest.mark.parametrize("said", ["pin", "accept"])
def test_what_people_said_meanwhile_outlives_a_pruning(runner: Callable[..., Runner], said: str) -> None:
    one, other = runner("one"), runner("other")
    one.measure("s1", "s2")
    one.push()
    other.pull()
    one.store.delete(one.store.folder(KEY), [one.store.find("s1")], "old")
    one.push()
    time.sleep(0.002)  # the note's time has milliseconds
    (other.store.pin if said == "pin" else other.store.accept)(other.store.find("s1"), "release")
    other.push()
    assert other.ids() == ["s1", "s2"]
    assert one.pull().records == 1
    assert one.ids() == ["s1", "s2"]
    file = one.store.find("s1")
    assert (file.pinned, file.accepted) == (said == "pin", said == "accept")


# Damage


def only(origin: Path, *changes: tuple[str, str | None]) -> None:
    """Somebody edits the branch by hand."""
    place = clone_of(origin, origin.parent / f"edit{len(list(origin.parent.iterdir()))}", "-b", BRANCH)
    for path, content in changes:
        file = place / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            file.symlink_to("/etc/passwd")
        else:
            file.write_text(content)
    git(place, "add", "-A")
    git(place, "-c", "user.name=E", "-c", "user.email=e", "commit", "--quiet", "-m", "edit")
    git(place, "push", "--quiet", "origin", BRANCH)


def test_damaged_files_are_named_and_left_out(runner: Callable[..., Runner], origin: Path) -> None:
    one, other = runner("one"), runner("other")
    one.measure("s1", "s2")
    one.push()
    path = next(path for path in branch_files(origin) if path.endswith("s1.json"))
    text = git(origin, "show", f"{BRANCH}:{path}")
    folder = path.rpartition("/")[0]
    only(
        origin,
        (path, text.replace('"gate":"passed"', '"gate":"failed"')),
        (f"{folder}/20260101T000000000Z-12345678-zz.json", text),
        ("elsewhere/test-00000000/0123456789ab/2026-01-01/" + path.rpartition("/")[2], text),
        (f"{folder}/20260101T000000000Z-12345678-ln.json", None),
        (path.rsplit("/", 2)[0] + "/pins/20260101T000000000000Z-abc-pin-x.json", '{"gpuperf": 1}'),
        ("README.json", "{}"),
        ("README.md", "what this is"),
    )
    done = other.pull()
    assert (done.records, other.ids()) == (1, ["s2"])
    named = "\n".join(map(str, done.unreadable))
    for message in (
        f"{BRANCH}:{path}\n  does not match its own checksum",
        "has another name than its content requires",
        "is in the folder of another key, 0123456789ab",
        "-ln.json\n  is not a file that a store writes",
        "is not a valid pin",
        "README.json\n  is not a file that a store writes",
    ):
        assert message in named
    assert len(done.unreadable) == 6
    assert [problem.why for problem in one.pull().unreadable if "other side" in problem.why]
    assert "README.md" in branch_files(origin)


def test_damaged_files_are_not_pushed(runner: Callable[..., Runner], origin: Path) -> None:
    one = runner("one")
    one.measure("s1", "s2")
    file = one.store.find("s1")
    Path(file.path).write_text("{")
    Path(file.path + ACCEPTED).write_text("{")
    folder = Path(one.store.folder(KEY)) / "pins"
    folder.mkdir()
    (folder / "x\nD code.json").write_text("{}")
    done = one.push()
    assert (done.records, len(done.unreadable)) == (1, 3)
    assert [path for path in branch_files(origin) if "s1" in path] == []


def test_an_edited_file_is_never_put_over_the_other(runner: Callable[..., Runner], origin: Path) -> None:
    one = runner("one")
    one.measure("s1")
    one.push()
    path = Path(one.store.find("s1").path)
    before = git(origin, "rev-parse", BRANCH)
    path.write_text(path.read_text() + " ")
    for done in (one.push(), one.pull()):
        assert [problem.where for problem in done.unreadable] == [one.store.describe(str(path))]
    assert path.read_text().endswith(" ")
    assert git(origin, "rev-parse", BRANCH) == before


@pytest.mark.parametrize("place", ["option", "url"])
def test_a_token_in_a_query_is_refused(runner: Callable[..., Runner], place: str) -> None:
    """Git hands the URL to its helpers on their command lines, and no server takes such a token from git."""
    one = runner("one")
    url = "http://127.0.0.1:1/team/code.git?private_token=S3CR3T"
    if place == "url":
        git(one.place, "remote", "set-url", "origin", url)
    with pytest.raises(OptionError, match="Write the token as the password of the URL") as caught:
        one.pull(remote=url if place == "option" else "origin")
    assert "S3CR3T" not in str(caught.value)
