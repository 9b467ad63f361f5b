"""pytest-benchmark's JSON, both ways."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_gpuperf.cli.imports.benchmarks import records_of
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.report.exchange.benchmark_export import benchmark_text
from pytest_gpuperf.report.exchange.benchmark_import import is_benchmark_file, read_benchmarks
from tests.unit.reports import reported

ROUNDS_S = (0.001,) * 90 + (0.002,) * 10


def theirs(path: Path, *names: str, device: str = "") -> Path:
    document = {
        "machine_info": {"node": "runner-1", **({"gpuperf": {"device": device, "driver": "570"}} if device else {})},
        "commit_info": {"id": "abcdef"},
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
    assert (first.commit, first.environment["driver"], first.environment["host"]) == ("abcdef", "570", "runner-1")
    (window,) = first.runs[0].windows
    assert window.requests == 100
    assert window.throughput == pytest.approx(100 / 0.11)
    assert window.latency.quantile_ns(0.5) == pytest.approx(1e6, rel=0.005)
    assert window.latency.quantile_ns(0.95) == pytest.approx(2e6, rel=0.005)


def test_files_of_two_devices_are_not_mixed(tmp_path: Path) -> None:
    files = [theirs(tmp_path / f"{name}.json", "t", device=name) for name in ("L4", "T4")]
    with pytest.raises(OptionError, match="several devices: 'L4', 'T4'"):
        records_of(files)
    assert records_of(files, gpu="L4")[0].key["device"] == "L4"


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="contains 'nothing'"):
        records_of([theirs(tmp_path / "a.json", "t")], "nothing")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not complete JSON"),
        ("[]", "not a pytest-benchmark file"),
        ('{"machine_info": {}, "benchmarks": [{"fullname": "t"}]}', "not a pytest-benchmark file"),
        ('{"machine_info": {}, "benchmarks": [{"fullname": "t", "stats": {"median": 1}}]}', "--benchmark-save-data"),
        ('{"machine_info": {}, "benchmarks": [{"fullname": "t", "stats": {"data": [-1]}}]}', "not a positive number"),
        ('{"machine_info": {}, "benchmarks": [{"fullname": "t", "stats": {"data": [NaN]}}]}', "not a positive number"),
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
    assert not is_benchmark_file(tmp_path / "missing.json")
