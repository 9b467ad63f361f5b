"""pytest-benchmark's JSON, both ways."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.cli.imports.benchmarks import records_of
from pytest_gpuperf.cli.main import main
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.report.exchange.benchmark_export import benchmark_text
from pytest_gpuperf.report.exchange.benchmark_import import is_benchmark_file, read_benchmarks
from tests.unit.reports import reported

ROUNDS_S = (0.001,) * 90 + (0.002,) * 10


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def theirs(path: Path, *names: str, device: str = "", commit: str = COMMIT, dirty: bool = False) -> Path:
    """A file as pytest-benchmark writes it."""
    document = {
        "machine_info": {"node": "runner-1", **({"gpuperf": {"device": device, "driver": "570"}} if device else {})},
        "commit_info": {"id": commit, "dirty": dirty},
        "benchmarks": [{"fullname": name, "stats": {"data": list(ROUNDS_S)}} for name in names],
    }
    path.write_text(json.dumps(document))
    return path


def test_pytest_benchmark_compares_ours(tmp_path: Path) -> None:
    """Its own command reads the files."""
    for number, test in enumerate((reported(4.0), reported(6.0)), 1):
        (tmp_path / f"000{number}_run.json").write_text(benchmark_text([test], generated_utc="2026-01-01T00:00:00"))
    command = [sys.executable, "-m", "pytest_benchmark", "compare", "./0001_run.json", "./0002_run.json", "--csv=out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Failed to load" not in done.stderr + done.stdout
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert len(rows) == 5  # two load points in each
    titles = rows[0].split(",")
    assert "median" in titles
    assert "test_resnet50[fp16][serving: concurrency 1]" in done.stdout


def test_the_figures_are_those_of_the_record() -> None:
    test = reported(4.0)
    (first, _) = json.loads(benchmark_text([test], generated_utc=""))["benchmarks"]
    point = test.curves[0].points[0]
    stats = first["stats"]
    assert stats["median"] * 1e9 == pytest.approx(point.p50_ns)
    assert stats["mean"] * 1e9 == pytest.approx(point.mean_ns, rel=0.005)
    assert stats["rounds"] == point.requests
    assert stats["min"] < stats["q1"] < stats["median"] < stats["q3"] < stats["max"]
    assert 0 < stats["iqr_outliers"] + stats["stddev_outliers"] < stats["rounds"]
    assert first["extra_info"]["throughput"] == point.throughput


def test_each_file_is_a_run_of_each_benchmark(tmp_path: Path) -> None:
    files = [theirs(tmp_path / f"{number}.json", "t.py::a", "t.py::b", device="NVIDIA L4") for number in range(3)]
    first, second = records_of(files)
    assert (first.test, second.test) == ("t.py::a", "t.py::b")
    assert first.invocation == second.invocation
    assert [run.index for run in first.runs] == [0, 1, 2]
    assert first.key == {"device": "NVIDIA L4", "test": "t.py::a", "version": 1, "method_version": "pytest-benchmark 1"}
    assert (first.commit, first.environment["driver"], first.environment["host"]) == (COMMIT, "570", "runner-1")
    (window,) = first.runs[0].windows
    assert window.requests == 100
    assert window.throughput == pytest.approx(100 / 0.11)
    assert window.latency.quantile_ns(0.5) == pytest.approx(1e6, rel=0.005)
    assert window.latency.quantile_ns(0.95) == pytest.approx(2e6, rel=0.005)


def with_rounds(path: Path, **rounds_s: Any) -> Path:
    """A file with these benchmarks."""
    entries = [{"fullname": name, "stats": {"data": data, "iterations": 2}} for name, data in rounds_s.items()]
    path.write_text(json.dumps({"machine_info": {}, "benchmarks": entries}))
    return path


def test_files_of_two_devices_are_not_mixed(tmp_path: Path) -> None:
    files = [theirs(tmp_path / f"{name}.json", "t", device=name) for name in ("L4", "T4")]
    with pytest.raises(OptionError, match=r"several devices: .*L4\.json 'L4', .*T4\.json 'T4'(.|\n)*state --gpu"):
        records_of(files)
    assert records_of(files, gpu="L4")[0].key["device"] == "L4"


def test_files_of_two_commits_are_not_mixed(tmp_path: Path) -> None:
    files = [theirs(tmp_path / f"{digit}.json", "t", commit=digit * 40) for digit in "ab"]
    with pytest.raises(OptionError, match=r"several commits(.|\n)*state --commit"):
        records_of(files)
    assert records_of(files, commit=COMMIT)[0].commit == COMMIT


def test_uncommitted_changes_of_one_file_are_those_of_the_record(tmp_path: Path) -> None:
    files = [theirs(tmp_path / f"{dirty}.json", "t", dirty=dirty) for dirty in (False, True)]
    assert records_of(files)[0].environment["uncommitted_changes"] is True
    assert records_of(files[:1])[0].environment["uncommitted_changes"] is False


@pytest.mark.parametrize("commit", ["unversioned", "unknown", ""])
def test_no_commit_is_not_a_commit(tmp_path: Path, commit: str) -> None:
    assert records_of([theirs(tmp_path / "a.json", "t", commit=commit)])[0].commit == ""


def test_a_name_that_a_file_has_twice_is_one_run_of_two_windows(tmp_path: Path) -> None:
    """As after a rerun: the same process measured both, so they don't show how starts differ."""
    (record,) = records_of([theirs(tmp_path / "a.json", "t", "t"), theirs(tmp_path / "b.json", "t", dirty=True)])
    assert [[window.visit for window in run.windows] for run in record.runs] == [[0, 1], [0]]
    assert [run.index for run in record.runs] == [0, 1]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ([0.1, -0.1], "has a round of -0.1"),
        ([0.1, math.nan], "has a round of nan"),
        ([0.1, math.inf], "has a round of inf"),
        ([0.1, 1e300], r"has a round of 1e\+300"),
        ([0.1, None], "has a round of None"),
        ([0.1, "0.1"], "has a round of '0.1'"),
        ([0.0, 0.0, 0.1], "took 0 s in 2 of its 3 rounds"),
        ([], "--benchmark-save-data"),
        (None, "--benchmark-save-data"),
    ],
)
def test_a_benchmark_with_unusable_rounds_is_left_out_alone(tmp_path: Path, data: Any, reason: str) -> None:
    path = with_rounds(tmp_path / "a.json", bad=data, good=[0.001] * 60)
    left_out: list[str] = []
    assert [record.test for record in records_of([path], on_left_out=left_out.append)] == ["good"]
    (sentence,) = left_out
    assert re.search(rf"a\.json: bad .*{reason}" if "save" in reason else rf"a\.json: bad {reason}", sentence)
    # One that was not asked for says nothing; alone, it is an error.
    left_out.clear()
    assert len(records_of([path], "good", on_left_out=left_out.append)) == 1
    assert not left_out
    with pytest.raises(OptionError, match=reason):
        records_of([path], "bad")


def test_a_round_below_the_resolution_of_the_clock_counts_among_the_shortest(tmp_path: Path) -> None:
    (record,) = records_of([with_rounds(tmp_path / "a.json", t=[0.0] + [1e-3] * 99)])
    (window,) = record.runs[0].windows
    assert window.requests == 100
    assert window.latency.quantile_ns(0.5) == pytest.approx(1e6, rel=0.005)
    assert window.throughput == pytest.approx(100 / 0.099)
    assert window.window_s == pytest.approx(2 * 0.099)  # two iterations


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="contains 'nothing'"):
        records_of([theirs(tmp_path / "a.json", "t")], "nothing")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not complete JSON"),
        ("[]", "not a pytest-benchmark file"),
        ('{"machine_info": {}, "benchmarks": [{"fullname": "t"}]}', "not a pytest-benchmark file"),
        (
            '{"machine_info": {}, "benchmarks": [{"fullname": "t", "stats": {"data": 1}}]}',
            "not a pytest-benchmark file",
        ),
    ],
)
def test_a_file_that_can_t_be_used_says_why(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(OptionError, match=message):
        read_benchmarks(path)


def test_the_kind_of_a_file_is_recognised(tmp_path: Path) -> None:
    assert is_benchmark_file(theirs(tmp_path / "a.json", "t"))
    (tmp_path / "b.json").write_text('{"experiments": []}')
    assert not is_benchmark_file(tmp_path / "b.json")
    with pytest.raises(OptionError, match=r"missing\.json cannot be read"):
        is_benchmark_file(tmp_path / "missing.json")
    (tmp_path / "cut.json").write_text('{"machine_info": {}, "benchmarks": [{"fullname": "t", "st')
    with pytest.raises(OptionError, match=r"cut\.json is not complete JSON"):
        is_benchmark_file(tmp_path / "cut.json")


def of_cpu(path: Path, cpu: dict[str, Any], **machine: str) -> Path:
    entries = [{"fullname": "t", "stats": {"data": list(ROUNDS_S), "iterations": 1}}]
    path.write_text(json.dumps({"machine_info": {"cpu": cpu, **machine}, "benchmarks": entries}))
    return path


@pytest.mark.parametrize(
    ("cpu", "machine", "device"),
    [
        ({"brand_raw": "AMD EPYC  9654", "count": 8}, {}, {"device": "CPU AMD EPYC 9654", "cores": 8}),
        ({}, {"processor": "", "machine": "aarch64"}, {"device": "CPU aarch64"}),
        ({}, {}, {"device": "unknown"}),
    ],
)
def test_the_cpu_of_a_file_is_part_of_the_key(
    tmp_path: Path, cpu: dict[str, Any], machine: dict[str, str], device: dict[str, Any]
) -> None:
    key = records_of([of_cpu(tmp_path / "a.json", cpu, **machine)])[0].key
    assert {name: value for name, value in key.items() if name in ("device", "cores")} == device


def test_files_of_two_cpus_are_neither_mixed_nor_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = (of_cpu(tmp_path / f"{n}.json", {"brand_raw": n, "count": 8}) for n in ("EPYC", "Xeon"))
    with pytest.raises(OptionError, match=r"several devices: .*CPU EPYC, cores 8.*CPU Xeon, cores 8"):
        records_of([old, new])
    for file in (old, new):
        assert main(["import", str(file), "--store", str(tmp_path / "store")]) == 0
    said = capsys.readouterr().out
    assert "device is CPU EPYC, not CPU Xeon" in said
    assert "regressed" not in said
