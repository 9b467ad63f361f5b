"""The action and the workflows that a team copies, run step by step; unit/test_workflows.py checks their text."""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.store import Store
from tests.e2e.actions_runner import Job
from tests.e2e.test_duet_install import PACKAGES, write_wheel
from tests.unit.cli.pull_request.github_server import REPOSITORY, TOKEN, State, github_server
from tests.unit.factories import record
from tests.unit.store.remotes import clone_of, git, origin_in

GITHUB = Path(__file__).parents[2] / ".github"
SHA = "1234567890" * 4
AUTHOR = ("-c", "user.name=Ada", "-c", "user.email=a@b")

SUITE = """
import os
import time

def test_sleep(gpuperf):
    gpuperf.sweep(lambda: time.sleep(0.004 * float(os.environ.get("SLOWER", "1"))), name="sleep", window_s=0.1)
"""


DEPENDENT_SUITE = """
import dependency

def test_sleep(gpuperf):
    print("measured with dependency", dependency.VERSION)
    gpuperf.sweep(dependency.infer, name="sleep")
"""


@pytest.fixture
def server() -> Iterator[State]:
    with github_server() as state:
        yield state


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The programs on a job's machine: this checkout's, and a pip that only prints its arguments."""
    place = tmp_path / "bin"
    place.mkdir()
    for name, command in {
        "gpuperf": f'exec "{sys.executable}" -m pytest_gpuperf.cli.main "$@"',
        "pytest": f'exec "{sys.executable}" -m pytest -p no:cacheprovider -p no:benchmark "$@"',
        "pip": 'echo "pip $*"',
    }.items():
        (place / name).write_text(f"#!/bin/sh\n{command}\n")
        (place / name).chmod(0o755)
    return place


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A repository of a team that copied the action and the workflows."""
    origin = origin_in(tmp_path)
    work = clone_of(origin, tmp_path / "team")
    shutil.copytree(GITHUB / "actions", work / ".github" / "actions")
    shutil.copytree(GITHUB / "examples", work / ".github" / "workflows")
    tests = work / "tests" / "performance"
    tests.mkdir(parents=True)
    (tests / "test_sleep.py").write_text(SUITE)
    (work / "pytest.ini").write_text("[pytest]\ngpuperf_runs = 2\ngpuperf_device = cpu\n")
    (work / ".gitignore").write_text(".gpuperf/\n__pycache__/\n")
    git(work, "add", "-A")
    git(work, "-c", "user.name=Ada", "-c", "user.email=a@b", "commit", "--quiet", "-m", "suite")
    git(work, "push", "--quiet", "origin", "main")
    return origin


Start = Callable[..., Job]


@pytest.fixture
def start(origin: Path, tmp_path: Path, programs: Path, server: State) -> Start:
    """A fresh machine for a job: a shallow checkout, an empty temporary directory."""

    def begin(event: dict[str, Any], name: str = "pull_request", branch: str = "main", **variables: str) -> Job:
        number = len(list(tmp_path.iterdir()))
        temporary = tmp_path / f"temp{number}"
        temporary.mkdir()
        checkout = clone_of(origin, tmp_path / f"checkout{number}", "--depth=1", f"--branch={branch}")
        (tmp_path / "artifacts").mkdir(exist_ok=True)
        return Job(
            github={"event_name": name, "event": event, "repository": REPOSITORY, "token": TOKEN},
            checkout=checkout,
            temporary=temporary,
            artifacts=tmp_path / "artifacts",
            path=programs,
            variables={
                "GITHUB_API_URL": server.url,
                "GITHUB_SERVER_URL": "https://github.com",
                "GITHUB_REPOSITORY": REPOSITORY,
                "GITHUB_ACTOR": "octocat",
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "TMPDIR": str(temporary),
                **variables,
            },
        )

    return begin


def pull_request(repository: str, head: str = "fix", base: str = "") -> dict[str, Any]:
    sides = {"head": {"repo": {"full_name": repository}, "ref": head}, "base": {"ref": "main", "sha": base}}
    return {"pull_request": {"number": 7, **sides}}


def workflow(job: Job, name: str) -> Path:
    return job.checkout / ".github" / "workflows" / f"{name}.yml"


def test_main_records_and_pull_requests_are_gated(start: Start, server: State, origin: Path, tmp_path: Path) -> None:
    # Nothing is recorded yet; a comment that fails does not change the verdict.
    server.answers.append(("GET", 401, {}, '{"message": "Bad credentials"}'))
    first = start(pull_request(REPOSITORY))
    assert first.run(workflow(first, "gpuperf"), "gpu") == 0, first.log
    assert any("::warning::The report could not be written as a comment" in text for text in first.log)
    assert any("there is no branch gpuperf-baselines yet" in text for text in first.log)
    assert any("NO BASELINE" in text for text in first.log)
    assert git(origin, "branch", "--format=%(refname:short)") == "main"

    main = start({}, "schedule")
    assert main.run(workflow(main, "gpuperf-main"), "gpu") == 0, main.log
    assert any("Pushed 1 record to gpuperf-baselines, a new branch." in text for text in main.log)
    assert git(origin, "log", "-1", "--format=%cn", "gpuperf-baselines") == "octocat"

    slower = start(pull_request(REPOSITORY), SLOWER="4")
    assert slower.run(workflow(slower, "gpuperf"), "gpu") == 1, slower.log
    assert any("regressed compared with 1 baseline record" in text for text in slower.log)
    assert any("Commented on pull request 7" in text for text in slower.log)
    assert git(origin, "rev-list", "--count", "gpuperf-baselines") == "1"
    kept = tmp_path / "artifacts" / "gpuperf"
    assert {path.name for path in kept.iterdir()} >= {"comment.md", "records.tar", "junit.xml"}
    with tarfile.open(kept / "records.tar") as tar:  # the record of this run, without the baseline
        (name,) = tar.getnames()

    # Accept the regression from the artifact, as docs/ci.md describes.
    here = start({}, "workflow_dispatch")
    record = name.removesuffix(".rejected.json").rpartition("-")[2]
    status, _ = here._script(
        f"gpuperf baseline import '{kept}/records.tar' --record {record} --store .gpuperf && "
        f"gpuperf baseline accept {record} --reason 'a larger model' && gpuperf baseline push",
        {},
    )
    assert status == 0, here.log
    after = start(pull_request(REPOSITORY), SLOWER="4")
    assert after.run(workflow(after, "gpuperf"), "gpu") == 0, after.log
    assert any("Updated the comment on pull request 7" in text for text in after.log)
    assert len(server.comments) == 1
    assert not any(TOKEN in text for job in (first, main, slower, after) for text in job.log)


def test_a_bucket_instead_of_a_branch(start: Start, origin: Path, tmp_path: Path) -> None:
    def prepared(event: dict[str, Any], name: str, **variables: str) -> Job:
        job = start(event, name, **variables)
        for path in (job.checkout / ".github" / "workflows").iterdir():
            path.write_text(path.read_text().replace("# store: s3://bucket/gpuperf", f"store: {tmp_path}/bucket"))
        return job

    def stored() -> int:
        store = Store(str(tmp_path / "bucket"))
        return sum(len(list(store.newest(folder))) for folder in store.folders())

    for name, event, said in (
        ("gpuperf-main", "push", "NO BASELINE yet"),
        ("gpuperf", "pull_request", "compared with 1 baseline record"),
    ):
        job = prepared(pull_request(REPOSITORY), event)
        assert job.run(workflow(job, name), "gpu") == 0, job.log
        assert any(said in text for text in job.log), job.log
        assert stored() == 1
    assert git(origin, "branch", "--format=%(refname:short)") == "main"


def push(work: Path, branch: str, version: str) -> str:
    """Push a new commit of main on a branch, whose requirement has a version; return its hash."""
    git(work, "checkout", "--quiet", "-B", branch, "main")
    (work / "requirements.txt").write_text(f"--no-index\n--find-links wheels\ndependency=={version}\n")
    git(work, "add", "-A")
    git(work, *AUTHOR, "commit", "--quiet", "--allow-empty", "-m", branch)
    git(work, "push", "--quiet", "origin", branch)
    return git(work, "rev-parse", "HEAD")


def test_pull_requests_are_measured_in_a_duet_with_their_base(
    start: Start, server: State, origin: Path, tmp_path: Path
) -> None:
    work = tmp_path / "team"
    for version, delay_s in (("1.0", 0.004), ("2.0", 0.0048)):
        write_wheel(work / "wheels", version, delay_s)
    test = work / "tests" / "performance" / "test_sleep.py"
    test.write_text(DEPENDENT_SUITE)
    base = push(work, "main", "1.0")
    push(work, "fix", "2.0")
    # GitHub's merge commit, and a base in the event that is older than it.
    git(work, "checkout", "--quiet", "-B", "merge", "main")
    git(work, *AUTHOR, "merge", "--quiet", "--no-ff", "-m", "merge", "fix")
    git(work, "push", "--quiet", "origin", "merge")

    def measured(job: Job, version: str) -> int:
        # The job's pip is a program that prints its arguments: install what the pull request requires.
        with zipfile.ZipFile(work / "wheels" / f"dependency-{version}-py3-none-any.whl") as wheel:
            wheel.extractall(job.checkout / ".installed")
        job.variables = {**job.variables, "PYTHONPATH": f"{job.checkout}/.installed:{PACKAGES}"}
        path = workflow(job, "gpuperf-duet")
        options = "mode: duet\n          duet-options: --blocks 3 --alternations 6 --window-s 0.1\n"
        path.write_text(path.read_text().replace("mode: duet\n", options))
        return job.run(path, "gpu")

    slower = start(pull_request(REPOSITORY, base=git(work, "rev-parse", "main~1")), branch="merge")
    assert measured(slower, "2.0") == 1, slower.log
    assert any("installing base in a new environment: pip install -r requirements.txt" in text for text in slower.log)
    assert any("Commented on pull request 7" in text for text in slower.log)
    (body,) = (comment["body"] for comment in server.comments)
    assert body.startswith("<!-- pytest-gpuperf report duet -->")
    assert f"gpuperf: `fix against main ({base[:8]})`: 1 test regressed" in body
    assert f"**Reference:** commit `{base[:8]}`" in body
    kept = {path.name for path in (tmp_path / "artifacts" / "gpuperf").iterdir()}
    assert kept == {"comment.md", "report.html", "junit.xml", "records.tar"}
    assert git(origin, "branch", "--format=%(refname:short)").split() == ["fix", "main", "merge"]

    # Nothing has changed, in a fork: it may not comment, but another workflow does.
    push(work, "docs", "1.0")
    fork = start(pull_request("mallory/code", base=base), branch="docs")
    assert measured(fork, "1.0") == 0, fork.log
    assert any("1 test compared, no regression" in text for text in fork.log)
    event = fork_run("docs", name="gpuperf duet")
    server.pulls.append({"number": 7, "head": {"label": "mallory:docs", "sha": SHA}})
    comment = start(event, "workflow_run")
    assert comment.run(workflow(comment, "gpuperf-comment"), "comment") == 0, comment.log
    (body,) = (comment["body"] for comment in server.comments)
    assert "1 test regressed" not in body
    assert not any(TOKEN in text for job in (slower, fork) for text in job.log)


def fork_run(branch: str, name: str = "gpuperf") -> dict[str, Any]:
    return {
        "workflow_run": {
            "id": 4711,
            "name": name,
            "event": "pull_request",
            "head_repository": {"full_name": "mallory/code", "owner": {"login": "mallory"}},
            "head_branch": branch,
            "head_sha": SHA,
        }
    }


def test_pull_requests_of_forks_are_commented_on_afterwards(start: Start, server: State, tmp_path: Path) -> None:
    fork = start(pull_request("mallory/code"))
    assert fork.run(workflow(fork, "gpuperf"), "gpu") == 0, fork.log
    assert server.asked == []
    event = fork_run("fix;$(touch${IFS}pwned)`id`")
    server.pulls.append({"number": 7, "head": {"label": "mallory:fix;$(touch${IFS}pwned)`id`", "sha": SHA}})
    report = tmp_path / "artifacts" / "gpuperf" / "comment.md"
    report.write_text("<!-- gpuperf -->\n## improved\n@maintainer [accept](https://evil.example)\n")
    comment = start(event, "workflow_run")
    assert comment.run(workflow(comment, "gpuperf-comment"), "comment") == 0, comment.log
    (body,) = (comment["body"] for comment in server.comments)
    assert "## improved" in body
    assert "@maintainer" not in body
    assert "](https" not in body
    assert not (comment.checkout / "pwned").exists()

    # The artifact holds a link; then a run of a branch of the same repository.
    (tmp_path / "secret").write_text("s3cr3t")
    report.unlink()
    report.symlink_to(tmp_path / "secret")
    again = start(event, "workflow_run")
    assert again.run(workflow(again, "gpuperf-comment"), "comment") == 1
    event["workflow_run"]["head_repository"] = {"full_name": REPOSITORY, "owner": {"login": "team"}}
    assert start(event, "workflow_run").run(workflow(again, "gpuperf-comment"), "comment") == -1
    assert len(server.comments) == 1


@pytest.mark.parametrize(("name", "event"), [("gpuperf", "pull_request"), ("gpuperf-main", "push")])
def test_leftover_records_are_no_baseline(start: Start, origin: Path, name: str, event: str) -> None:
    job = start(pull_request(REPOSITORY), event)
    Store(str(job.checkout / ".gpuperf")).write(record())
    assert job.run(workflow(job, name), "gpu") != 0
    assert any("::error::The directory .gpuperf exists already" in text for text in job.log)
    assert not any("test record starts" in text for text in job.log)
    assert git(origin, "branch", "--format=%(refname:short)") == "main"


@pytest.mark.parametrize("block", ["|", ">"])
def test_tests_on_several_lines_are_all_measured(start: Start, block: str) -> None:
    job = start(pull_request(REPOSITORY))
    shutil.copytree(job.checkout / "tests" / "performance", job.checkout / "tests" / "second")
    lines = f"tests: {block}\n            tests/performance\n            tests/second --import-mode=importlib\n"
    path = workflow(job, "gpuperf")
    path.write_text(path.read_text().replace("tests: tests/performance\n", lines))
    assert job.run(path, "gpu") == 0, job.log
    assert any("2 passed" in text for text in job.log), job.log


def test_smoke(start: Start) -> None:
    job = start(pull_request("mallory/code"))
    (job.path / "gpuperf").write_text(
        '#!/bin/sh\necho "gpuperf $*"\n'
    )  # the bundled server is installed by other tests
    assert job.run(workflow(job, "gpuperf-smoke"), "cpu") == 0, job.log
    assert job.log[1] == "gpuperf triton install\n"
    assert "1 passed" in job.log[2]
    assert not (job.checkout / ".gpuperf").exists()
