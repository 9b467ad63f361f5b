from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_gpuperf.model import Comparison, Finding, GpuReadings, Verdict
from pytest_gpuperf.model.finding import CO_TENANT, CO_TENANTS, ERRORS, REQUESTS_FAILED
from pytest_gpuperf.report.commands import accept, reproduce
from pytest_gpuperf.report.markdown.comment import MAX_CHARACTERS, comment, marker_line
from tests.unit.report.markdown.github_page import rendered
from tests.unit.reports import HOSTILE, TEST, reported
from tests.unit.snapshots import matches
from tests.unit.store.remotes import ENVIRONMENT, clone_of, git, origin_in

HOT = GpuReadings("GPU-1", 5, sm_clock_min_mhz=1200, sm_clock_max_mhz=2040, throttled=("sw_power_cap",))
COOL = replace(HOT, throttled=(), sm_clock_min_mhz=2039.6)
#: What GitHub leaves of a comment's HTML that we write.
OURS = {"h2", "h3", "p", "code", "pre", "strong", "br", "ul", "li", "details", "summary", "blockquote", "wbr"} | {
    "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip


def test_a_regression_is_understood_at_once() -> None:
    """The whole comment: look at it before you accept a change of it."""
    regressed = reported(
        6.0,
        under_test={"serving": {"engine": "10.2"}},
        gpus=(HOT,),
        findings=(Finding(REQUESTS_FAILED, ERRORS, 2, 60),),
        environment={"uncommitted_changes": True},
    )
    others = [
        reported(test="tests/test_serving.py::test_bert", name="000000000001"),
        reported(test="tests/test_serving.py::test_new", before_ms=None, name="000000000002"),
    ]
    assert matches("comment_regressed.md", comment([regressed, *others]))


def test_several_gpu_models_have_a_section_each() -> None:
    both = [reported(4.0, gpus=(COOL,)), reported(9.0, device="NVIDIA A10G", name="00000000000a", before_ms=4.0)]
    text = comment(both, title="feature/faster](javascript:1)")
    assert matches("comment_two_gpus.md", text)
    page = rendered(text)
    assert [name for name, _ in page.tags].count("h3") == 2


def test_an_empty_report_says_so() -> None:
    assert "No test measured anything." in comment([])
    unchanged = comment([reported()])
    assert "✅" in unchanged.splitlines()[2]
    assert "| load point | metric | baseline | now |" not in unchanged.partition("<details>")[0]


def test_a_record_cut_short_and_a_failed_test_are_listed() -> None:
    cut = reported(status="incomplete")
    broken = reported(test="tests/test_b.py::test_b", error="BudgetMissed: no load point with p90 <= 1 ms")
    text = comment([cut, broken])
    assert f"measurement cut short: `{TEST}`" in text
    assert "`tests/test_b.py::test_b`: `BudgetMissed: no load point with p90 <= 1 ms`" in text
    assert "## ❌ gpuperf: 1 of 2 tests failed, nothing regressed" in text
    regressed = reported(9.0, before_ms=4.0)
    assert "1 of 2 tests regressed, 1 failed for another reason" in comment([broken, regressed])


def test_a_failed_test_comes_before_passed_tests() -> None:
    fine = [reported(device="NVIDIA L4", test=f"t.py::test_{number}") for number in range(3)]
    broken = reported(device="NVIDIA A10G", test="t.py::test_broken", error="TargetError: no such model")
    text = comment([*fine, broken])
    assert text.index("### NVIDIA A10G") < text.index("### NVIDIA L4")
    assert "pytest --gpuperf t.py::test_broken" in text
    assert "<code>t.py::test_broken</code>: failed, unchanged" in text


def test_a_test_that_measured_nothing_says_so() -> None:
    test = reported(error="TargetError: no such model", before_ms=None)
    test = replace(test, record=replace(test.record, id="", runs=(), status="incomplete"), curves=(), path="")
    text = comment([test])
    assert "## ❌ gpuperf: 1 test failed, nothing regressed" in text
    assert f"- nothing was measured: `{TEST}`" in text
    assert "No record was stored." in text


def test_a_baseline_that_is_not_comparable_says_why() -> None:
    test = replace(
        reported(before_ms=None),
        comparison=Comparison(Verdict.NOT_COMPARABLE, differing={"power_limit_w": (60, 72)}),
    )
    assert "the newest record has a different key: `power_limit_w is 60, not 72`" in comment([test])


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_and_nothing_of_them_executes(name: str) -> None:
    test = reported(
        6.0,
        test=f"t.py::test[{name}]",
        device=name,
        environment={"driver": name},
        under_test={name: {name: name}},
        findings=(Finding(CO_TENANTS, CO_TENANT, names=(name,)), Finding("nvml_other", detail=name)),
        error=name,
        store_option=f" --store {shlex.quote(name)}",
    )
    test = replace(
        test,
        path=name,
        record=replace(test.record, commit=name),
        curves=tuple(replace(curve, name=name) for curve in test.curves) * 2,
        comparison=replace(
            test.comparison,
            rows=tuple(replace(row, sweep=name) for row in test.comparison.rows),
            new_points=(name,),
            missing_points=(name,),
        ),
    )
    both = [test, replace(test, record=replace(test.record, key={**test.record.key, "device": f"B {name}"}))]
    page = rendered(comment(both, title=name, marker=name))
    assert page.names <= OURS
    assert not [attributes for _, attributes in page.tags if attributes.keys() - {"align", "lang"}]
    for mark in ("@octocat", "#12", "javascript:", "evil.example"):
        assert mark not in page.prose
    opened = [tag for tag, _ in page.tags]
    assert opened.count("details") == opened.count("summary")
    assert page.balanced


@pytest.mark.parametrize(("tests", "load_points", "size"), [(60, 20, 8), (400, 6, 160), (3, 20, 8)])
def test_it_stays_under_github_s_limit_and_says_what_was_cut(tests: int, load_points: int, size: int) -> None:
    base = reported(6.0, load_points=load_points)
    many = [
        replace(base, record=replace(base.record, test=f"tests/test_{'x' * size}.py::test[{number}-|`<{'y' * size}]"))
        for number in range(tests)
    ]
    text = comment(many)
    assert len(text) <= MAX_CHARACTERS
    assert text.startswith(marker_line())
    page = rendered(text)
    assert page.balanced
    assert ("Shortened to fit GitHub's size limit" in text) == (tests > 3)
    if tests > 3:
        assert "sweep" in text.partition("Shortened to fit")[2].partition("\n")[0]


def test_many_gpu_models_fit_as_well() -> None:
    base = reported(6.0)
    many = [
        replace(base, record=replace(base.record, key={**base.record.key, "device": f"GPU {number} {'`|' * 80}"}))
        for number in range(300)
    ]
    text = comment(many)
    assert len(text) <= MAX_CHARACTERS
    assert rendered(text).balanced
    assert "more devices are listed only in the table above" in text


def test_every_regressed_test_is_in_the_table() -> None:
    many = [
        reported(6.0 + number, test=f"tests/test_serving.py::test_{number}", name=f"{number:012x}", load_points=4)
        for number in range(6)
    ]
    table = comment(many).partition("<details>")[0]
    assert all(f"`tests/test_serving.py::test_{number}`" in table for number in range(6))
    assert "more rows, listed below" in table


def test_the_commands_fetch_the_measured_commit(tmp_path: Path) -> None:
    """A pull request's job is on a merge commit that no branch has; a commit that was never pushed is on one clone."""
    origin = origin_in(tmp_path)
    here, merge = clone_of(origin, tmp_path / "here"), git(tmp_path / "work", "rev-parse", "HEAD")
    git(origin, "update-ref", "refs/pull/7/merge", merge)
    git(origin, "update-ref", "refs/heads/main", f"{merge}^")
    for clone in (here, clone_of(origin, tmp_path / "there", "--depth=1")):
        test = reported(6.0)
        test = replace(test, record=replace(test.record, commit=merge))
        lines = comment([test]).splitlines()
        script = "\n".join(line for line in lines if line.startswith("git "))
        subprocess.run(["bash", "-c", script], cwd=clone, env=ENVIRONMENT, check=True)
        assert git(clone, "rev-parse", "HEAD") == merge
    git(here, "remote", "remove", "origin")
    git(here, "checkout", "--quiet", f"{merge}^")
    subprocess.run(["bash", "-c", script], cwd=here, env=ENVIRONMENT, check=True)
    assert git(here, "rev-parse", "HEAD") == merge


def test_the_commands_reproduce_and_accept() -> None:
    test = reported(6.0, runs=5, store_option=" --store s3://key:secret@bucket/perf", spread=(0.99, 1.0, 1.01))
    assert reproduce(test) == (
        "pytest --gpuperf 'tests/test_serving.py::test_resnet50[fp16]' --gpuperf-runs=5 "
        "--gpuperf-store=s3://bucket/perf"
    )
    assert accept(test) == 'gpuperf baseline accept 0a1b2c3d4e5f --store s3://bucket/perf --reason "..."'
    text = comment([test])
    assert accept(test) in text
    assert "secret" not in text


def test_a_duet_of_two_commits_is_repeated_as_a_duet() -> None:
    test = reported(6.0)
    record = replace(test.record, reference_under_test={"serving": {"commit": "b" * 40}})
    test = replace(test, record=record, comparison=replace(test.comparison, mode="duet"))
    command = f"gpuperf duet --base={'b' * 40} -- 'tests/test_serving.py::test_resnet50[fp16]'"
    assert reproduce(test) == command
    text = comment([test], title="fix against main")
    assert command in text
    assert f"git fetch origin {record.commit} {'b' * 40}" in text
    assert "**Reference:** commit `bbbbbbbb`, measured in alternation" in text
    assert "What else differs from the reference" in text


def test_why_there_is_no_comparison_stands_at_the_top_and_fits() -> None:
    error = "base can't be installed\n```\n# @everybody\n" + "x" * 100_000 + "\n" * 100_000
    text = comment([], title="fix against main", error=error, notes=["only at head: tests/test_a.py::test[@all]"])
    assert text.splitlines()[2] == "## ❌ gpuperf: `fix against main`: no comparison"
    assert len(text) < MAX_CHARACTERS
    page = rendered(text)
    assert [name for name, _ in page.tags].count("h2") == 1
    assert "only at head: tests/test_a.py::test[@all]" in page.text


def test_the_command_for_a_benchmark_has_no_option_that_pytest_refuses() -> None:
    test = reported(4.0)
    measured = replace(test.record, settings={**test.record.settings, "runs": 1})
    assert "--gpuperf-runs" not in reproduce(replace(test, record=measured))


def test_a_record_of_another_tool_has_no_pytest_command() -> None:
    test = reported(6.0)
    key = {**test.record.key, "method_version": "gpuperf sweep 1"}
    test = replace(test, record=replace(test.record, test="resnet50\nrm -rf", key=key))
    assert reproduce(test) == "# resnet50 rm -rf: measured by gpuperf sweep"


def test_a_store_whose_name_a_shell_would_take_apart() -> None:
    test = reported(6.0, store_option=" --store 'team'\"'\"'s store'")
    assert shlex.split(accept(test))[:6] == ["gpuperf", "baseline", "accept", "0a1b2c3d4e5f", "--store", "team's store"]
    assert shlex.split(reproduce(test))[-1] == "--gpuperf-store=team's store"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("", "<!-- pytest-gpuperf report -->"),
        ("gpu a100", "<!-- pytest-gpuperf report gpu a100 -->"),
        ("--> <b>", "<!-- pytest-gpuperf report b -->"),
    ],
)
def test_a_marker_is_hidden_and_ends_where_it_should(name: str, line: str) -> None:
    assert marker_line(name) == line
    assert rendered(comment([reported()], marker=name)).text.lstrip().startswith("✅")


def test_load_points_of_only_one_side_are_listed() -> None:
    test, gone, new = reported(), "serving: concurrency 64", "serving: concurrency 3"
    test = replace(test, comparison=replace(test.comparison, missing_points=(gone,), new_points=(new,)))
    text = comment([test]).partition("<details>")[0]
    assert f"- `{TEST}`: no longer measured: {gone}; not in the baseline: {new}" in text.replace(
        f"`{gone}`", gone
    ).replace(f"`{new}`", new)
