"""``gpuperf.duet`` in a test, and ``gpuperf duet`` over two commits."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.invocations import GPUPERF, Run, record_files
from tests.processes import survivors

MODEL = """
import time

def infer():
    time.sleep({delay_s})
"""
SUITE = """
import model

def test_model(gpuperf):
    gpuperf.sweep(model.infer, concurrency=[1, 2], name="model")
"""
QUICK = ("--blocks", "3", "--alternations", "6", "--window-s", "0.1")
PYTEST = ("--", "--gpuperf-device=cpu", "-p", "no:benchmark", "-p", "no:cacheprovider")


class TestInATest:
    def test_a_target_against_itself_and_against_a_slower_target(self, run: Run, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(
            """
            import time

            def infer():
                time.sleep(0.004)

            def slow():
                time.sleep(0.006)

            QUICK = dict(blocks=3, alternations=6, window_s=0.1)

            def test_same(gpuperf):
                duet = gpuperf.duet(infer, infer, concurrency=[1, 2], **QUICK)
                assert duet.measured
                for candidate, reference in zip(duet.candidate, duet.reference):
                    assert abs(candidate.p50_ms / reference.p50_ms - 1) < 0.1

            def test_slower(gpuperf):
                duet = gpuperf.duet(slow, infer, concurrency=[1, 2], **QUICK)
                assert duet.candidate.points[0].p50_ms > 5.9 > duet.reference.points[0].p50_ms
            """
        )
        result = run()
        result.assert_outcomes(passed=1, failed=1)
        text = result.stdout.str()
        assert "test_slower regressed compared with its reference" in text
        assert re.search("candidate against reference in [23] blocks", text)
        assert "NO BASELINE" not in text
        # Part of no baseline, but the next duet reads it.
        stored = list((pytester.path / ".gpuperf").rglob("*.duet*.json"))
        assert len(stored) == 2
        run("-k", "same").assert_outcomes(passed=1)

    def test_a_smoke_run_tries_both_sides(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(
            """
            CALLS = []

            def test_duet(gpuperf):
                duet = gpuperf.duet(lambda: CALLS.append("new"), lambda: CALLS.append("old"), concurrency=[1, 2])
                assert not duet.measured
                assert CALLS == ["new"] * 3 + ["old"] * 3
            """
        )
        pytester.runpytest_subprocess("-p", "no:benchmark").assert_outcomes(passed=1)

    @pytest.mark.parametrize(
        ("call", "hint"),
        [
            ("gpuperf.duet(print, print, blocks=1)", "one block shows no spread"),
            ("gpuperf.duet(print, print, alternations=0)", "alternations=[0]: write a whole number"),
            ("gpuperf.duet(print, print, window_s=0)", "positive number of seconds"),
            ("gpuperf.sweep(lambda: None, window_s=0.1); gpuperf.duet(print, print, name='b')", "a test of its own"),
        ],
    )
    def test_a_wrong_argument_says_what_to_write(
        self, run: Run, pytester: pytest.Pytester, call: str, hint: str
    ) -> None:
        pytester.makepyfile(test_suite=f"def test_wrong(gpuperf):\n    {call}\n")
        result = run()
        result.assert_outcomes(failed=1)
        assert hint in result.stdout.str()


class Repository:
    """A git repository with a suite, and ``gpuperf duet`` in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "user.email", "someone@example.org")
        self.git("config", "user.name", "Someone")
        self.write(model=MODEL.format(delay_s=0.004), test_suite=SUITE)
        self.commit("first")

    def git(self, *arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=self.path, check=True, capture_output=True, text=True).stdout

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.path / f"{name}.py").write_text(text)

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "--quiet", "-m", message)

    def command(self, *options: str) -> list[str]:
        before, after = (
            (options, ())
            if "--" not in options
            else (
                options[: options.index("--")],
                options[options.index("--") + 1 :],
            )
        )
        return [
            *GPUPERF,
            "duet",
            *(["--base", "HEAD"] if "--base" not in before else []),
            *QUICK,
            *before,
            *PYTEST,
            *after,
        ]

    def duet(self, *options: str, cwd: str = ".", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*options),
            cwd=self.path / cwd,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=200,
        )

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        with (self.path.parent / "duet.txt").open("wb") as output:
            return subprocess.Popen(
                self.command(*options), cwd=self.path, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    @staticmethod
    def wait_for(process: subprocess.Popen[bytes], what: Callable[[], bool]) -> None:
        end = time.monotonic() + 120
        while not what():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)

    @property
    def mark(self) -> Path:
        """A file that the model writes when it is called."""
        return self.path.parent / "called"

    @property
    def output(self) -> str:
        return (self.path.parent / "duet.txt").read_text()


@pytest.fixture
def repository(pytester: pytest.Pytester) -> Iterator[Repository]:
    path = pytester.path / "project"
    path.mkdir()
    repository = Repository(path)
    yield repository
    assert repository.git("worktree", "list").count("\n") == 1, "a worktree was left"
    assert not list(Path(tempfile.gettempdir()).glob("gpuperf-duet-*")), "a directory was left"


def test_nothing_changed_passes(repository: Repository) -> None:
    done = repository.duet()
    assert done.returncode == 0, done.stdout
    assert "head is the working tree as it is, base is HEAD (" in done.stdout
    assert re.search("candidate against reference in [23] blocks", done.stdout)
    assert "1 test compared, no regression" in done.stdout
    assert "NO BASELINE" not in done.stdout
    # Stored in the user's checkout, even though head ran in a worktree.
    assert len(list((repository.path / ".gpuperf").rglob("*.duet.json"))) == 1


def test_an_uncommitted_slowdown_regresses(repository: Repository) -> None:
    """It ends as soon as the regression is shown: 50% needs no third block, let alone a ninth."""
    repository.write(model=MODEL.format(delay_s=0.006))
    done = repository.duet("--blocks", "9")
    assert done.returncode == 1, done.stdout
    assert "test_suite.py::test_model regressed compared with its reference" in done.stdout
    blocks = re.search(r"candidate against reference in (\d) blocks", done.stdout)
    assert blocks is not None
    assert int(blocks[1]) < 5
    (stored,) = (repository.path / ".gpuperf").rglob("*.duet.rejected.json")
    record = json.loads(stored.read_text())["record"]
    assert len(record["runs"]) == len(record["reference"]) == int(blocks[1]) == record["settings"]["runs"]
    assert 0 < record["rule"]["looks"]["model"]["changed"] < 1
    assert "source: commit" not in done.stdout.partition("what else differs")[2].partition("this record")[0]
    assert "environment: uncommitted_changes False -> True" in done.stdout


def test_two_commits_ignore_changes_of_the_checkout(repository: Repository) -> None:
    repository.write(model=MODEL.format(delay_s=0.006))
    repository.commit("slower")
    repository.write(model="this is no Python", test_suite="neither is this")
    done = repository.duet("--base", "HEAD~1", "--head", "HEAD")
    assert done.returncode == 1, done.stdout
    assert "test_model regressed compared with its reference" in done.stdout
    assert "source: commit" in done.stdout
    back = repository.duet("--base", "HEAD", "--head", "HEAD~1")
    assert back.returncode == 0, back.stdout
    assert re.search("improved: candidate against reference in [23] blocks", back.stdout)
    assert len(list((repository.path / ".gpuperf").rglob("*.duet*.json"))) == 2


def test_tests_of_a_single_side_are_reported_and_do_not_block(repository: Repository) -> None:
    both = SUITE + "\ndef test_old(gpuperf):\n    gpuperf.sweep(model.infer, name='old')\n"
    repository.write(test_suite=both)
    repository.commit("old")
    new = (
        SUITE
        + "\ndef test_new(gpuperf):\n    gpuperf.sweep(model.infer, name='new')\n\ndef test_plain():\n    assert 0\n"
    )
    repository.write(test_suite=new)
    done = repository.duet()
    assert done.returncode == 0, done.stdout
    assert "only at head, so not compared: test_suite.py::test_new" in done.stdout
    assert "only at base, so not compared: test_suite.py::test_old" in done.stdout
    assert "1 passed, 2 deselected" in done.stdout


def test_a_new_file_is_reported_and_can_be_an_overlay(repository: Repository) -> None:
    repository.write(test_new=SUITE.replace("test_model", "test_new"))
    done = repository.duet("--", "test_suite.py", "test_new.py")
    assert done.returncode == 0, done.stdout
    assert "only at head, so not compared: test_new.py" in done.stdout
    alone = repository.duet("--", "test_new.py")
    assert alone.returncode == 0
    assert "NOTHING WAS COMPARED: base has none of test_new.py" in alone.stdout
    assert "--overlay test_new.py" in alone.stdout
    over = repository.duet("--overlay", "test_new.py", "--", "test_new.py")
    assert over.returncode == 0, over.stdout
    assert "1 test compared, no regression" in over.stdout


def test_a_failure_on_a_single_side_is_reported(repository: Repository) -> None:
    two = SUITE + "\n\ndef test_second(gpuperf):\n    {}\n    gpuperf.sweep(model.infer, name='second')\n"
    repository.write(test_suite=two.format("raise RuntimeError('no licence')"))
    repository.commit("broken")
    repository.write(test_suite=two.format("pass"))
    done = repository.duet()
    assert done.returncode == 0, done.stdout
    assert "NOT COMPARED: base fails: RuntimeError: no licence" in done.stdout
    assert "failed at base: test_suite.py::test_second" in done.stdout
    assert "1 test compared, no regression" in done.stdout
    repository.commit("repaired")
    repository.write(test_suite=two.format("raise RuntimeError('no licence')"))
    done = repository.duet()
    assert done.returncode == 1, done.stdout
    assert "FAILED test_suite.py::test_second" in done.stdout


def test_points_of_a_single_side_are_measured_and_reported(repository: Repository) -> None:
    repository.write(test_suite=SUITE.replace("[1, 2]", "[2, 3]"))
    done = repository.duet()
    assert done.returncode == 0, done.stdout
    assert "not in the reference: model: concurrency 3" in done.stdout
    assert "in the reference but not measured now: model: concurrency 1" in done.stdout


def test_a_search_measures_the_loads_of_both_sides(repository: Repository) -> None:
    searching = """
import time
import model

def test_capacity(gpuperf):
    capacity = gpuperf.search(model.infer, p50_ms=50, highest=2, name="capacity", window_s=0.1)
    assert capacity.throughput > 0
"""
    repository.write(test_suite=searching)
    repository.commit("search")
    done = repository.duet()
    assert done.returncode == 0, done.stdout
    assert "1 test compared, no regression" in done.stdout
    (record,) = (repository.path / ".gpuperf").rglob("*.duet.json")
    assert json.loads(record.read_text())["record"]["budgets"] == [{"limits": [{"quantile": 0.5, "limit_ns": 5e7}]}]


SEARCHING = """
import model

def test_capacity(gpuperf):
    gpuperf.search(model.infer, p50_ms=5000, name="capacity", window_s=0.1, {asked})
"""


def points_of(repository: Repository) -> list[set[str]]:
    """Return the load points of head and of base in the only stored duet."""
    (path,) = (repository.path / ".gpuperf").rglob("*.duet.json")
    record = json.loads(path.read_text())["record"]
    sides = [[window["point"] for run in record[side] for window in run["windows"]] for side in ("runs", "reference")]
    return [
        {f"{window['concurrency'] or window['rate']:g} {window['arrivals']}".strip() for window in windows}
        for windows in sides
    ]


def test_a_search_in_a_duet_ignores_stored_records(repository: Repository) -> None:
    repository.write(test_suite=SEARCHING.format(asked="lowest=3, highest=3"))
    stored = [sys.executable, "-m", "pytest", "--gpuperf", *PYTEST[1:]]
    subprocess.run(stored, cwd=repository.path, check=True, capture_output=True)
    (path,) = record_files(repository.path)
    repository.write(test_suite=SEARCHING.format(asked="lowest=2, highest=2"))
    repository.commit("lower")
    path.write_text("{")
    done = repository.duet()
    assert done.returncode == 0, done.stdout
    assert points_of(repository) == [{"2"}, {"2"}]


def test_sides_that_search_along_different_axes_share_no_points(repository: Repository) -> None:
    asked = "open_loop=True, lowest=20, highest=20"
    repository.write(test_suite=SEARCHING.format(asked=asked))
    repository.commit("poisson")
    repository.write(test_suite=SEARCHING.format(asked=f"{asked}, arrivals='constant'"))
    done = repository.duet()
    assert "not in the reference: capacity: 20/s constant" in done.stdout, done.stdout
    assert "in the reference but not measured now: capacity: 20/s poisson" in done.stdout
    assert points_of(repository) == [{"20 constant"}, {"20 poisson"}]


def test_a_duet_inside_a_duet_is_skipped(repository: Repository) -> None:
    duet = "\n\ndef test_own(gpuperf):\n    gpuperf.duet(model.infer, model.infer)\n"
    repository.write(test_suite=SUITE + duet)
    repository.commit("duet")
    done = repository.duet("--", "-rs")
    assert done.returncode == 0, done.stdout
    assert "1 passed, 1 skipped" in done.stdout
    assert "gpuperf duet can't measure a test that calls gpuperf.duet()" in done.stdout


def test_an_editable_install_is_overridden(repository: Repository) -> None:
    """The code is imported through a path of the checkout, as after ``pip install -e .``."""
    package = repository.path / "src" / "served"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(MODEL.format(delay_s=0.004))
    repository.write(test_suite=SUITE.replace("model", "served"))
    repository.commit("src layout")
    (package / "__init__.py").write_text(MODEL.format(delay_s=0.006))
    inherited = os.environ.get("PYTHONPATH", "")
    done = repository.duet(PYTHONPATH=os.pathsep.join(filter(None, [str(repository.path / "src"), inherited])))
    assert done.returncode == 1, done.stdout
    assert "test_served regressed compared with its reference" in done.stdout


def test_a_side_that_imports_the_wrong_checkout_is_an_error(repository: Repository) -> None:
    repository.write(conftest=f"import sys\nsys.path.insert(0, {str(repository.path)!r})\nimport model\n")
    repository.commit("hard-wired")
    done = repository.duet()
    assert done.returncode == 3
    assert "base does not run its own code" in done.stdout
    assert "--python-base" in done.stdout


@pytest.mark.parametrize("side", ["head", "base"])
def test_a_side_that_is_killed_ends_both(repository: Repository, side: str) -> None:
    repository.write(model=MODEL.format(delay_s=0.004) + f"    open('{repository.mark}', 'w').close()\n")
    process = repository.start("--alternations", "200")
    repository.wait_for(process, repository.mark.exists)
    children = psutil.Process(process.pid).children(recursive=True)
    (victim,) = [child for child in children if _is_pytest_of(child, side)]
    victim.kill()
    assert process.wait(90) == 3
    peer = {"head": "base", "base": "head"}[side]
    assert f"{side}: pytest was killed by signal 9 in test_suite.py::test_model" in repository.output
    assert f"{peer} was ended as well" in repository.output
    assert not survivors(children)


def _is_pytest_of(process: psutil.Process, side: str) -> bool:
    variable = str(process.environ().get("GPUPERF_DUET", ""))
    return variable.startswith(f"{side}:") and process.cmdline()[1:3] == ["-m", "pytest"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ending_the_command_ends_both(repository: Repository, number: signal.Signals) -> None:
    process = repository.start("--alternations", "200")
    repository.wait_for(process, lambda: "measures on both sides" in repository.output)
    time.sleep(2)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 4, "two supervisors and two pytests"
    process.send_signal(number)
    assert process.wait(60) == (-9 if number == signal.SIGKILL else 130)
    assert not survivors(children, 60)
    if number == signal.SIGKILL:
        repository.git("worktree", "prune")


def test_a_side_that_hangs_ends_both(repository: Repository) -> None:
    repository.write(model=MODEL.format(delay_s=0.004) + "\nimport signal\n" + "time.sleep(1000)\n")
    started = time.monotonic()
    done = repository.duet("--deadline", "15")
    assert done.returncode == 3
    assert "head made no progress for 15 s" in done.stdout
    assert "--deadline allows more" in done.stdout
    assert time.monotonic() - started < 60


def test_a_collection_error_of_a_side_is_shown(repository: Repository) -> None:
    repository.write(test_suite="import nowhere\n")
    done = repository.duet()
    assert done.returncode == 3
    assert "No module named 'nowhere'" in done.stdout


@pytest.mark.parametrize(
    ("options", "status", "hint"),
    [
        (["--base", "nowhere"], 1, "'nowhere' is not a commit"),
        (["--python-base", "/nowhere/python"], 1, "/nowhere/python, can't be run"),
        (["--python-base", "/bin/false"], 1, "has no pytest-gpuperf"),
        (["--overlay", "nowhere.py"], 1, "head has no such file"),
        (["--environments", "kept"], 1, "add --install COMMAND"),
        (["--report", "report.xml"], 2, "write a file that ends in .md"),
        (["--", "-n", "2"], 3, "leave pytest-xdist's -n out"),
        (["--", "--gpuperf-alpha=7"], 3, "for example 5%"),
    ],
)
def test_a_wrong_option_says_what_to_write(repository: Repository, options: list[str], status: int, hint: str) -> None:
    done = repository.duet(*options)
    assert done.returncode == status
    assert hint in done.stdout
    assert "Traceback" not in done.stdout


def test_outside_of_a_repository(pytester: pytest.Pytester) -> None:
    done = pytester.run(*GPUPERF, "duet", "--base", "HEAD")
    assert done.ret == 1
    assert "not inside a git repository" in done.stderr.str()
