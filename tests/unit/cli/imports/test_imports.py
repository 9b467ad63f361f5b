from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.cli.imports.profiles import record_of, windows_of
from pytest_gpuperf.cli.main import main
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import Finding, LoadPoint, figures_by_point
from pytest_gpuperf.model.finding import WINDOWS_UNKNOWN
from pytest_gpuperf.report.exchange.profile_export import ProfileExport
from pytest_gpuperf.report.exchange.profile_import import ProfileLevel, read_profile
from pytest_gpuperf.store import Store
from tests.unit.cli.stores import gpuperf
from tests.unit.report.exchange.recordings import closed_loop

MS, S = 1_000_000, 1_000_000_000
EPOCH = 1_700_000_000 * S


def served(latency_ms: float, concurrency: int, stop_s: float, seed: int = 0) -> list[tuple[int, int]]:
    """Sent and done of a closed loop from 0 on, in perf_analyzer's way: what is in flight at the end is not there."""
    chance = random.Random(seed)
    found = []
    for _ in range(concurrency):
        now = 0
        while now < stop_s * S:
            done = now + round(latency_ms * MS * chance.uniform(0.5, 1.5))
            found.append((now, done))
            now = done
    return sorted(one for one in found if one[1] <= stop_s * S)


def profile(path: Path, *levels: tuple[str, float, list[tuple[int, int]], list[float]]) -> Path:
    """A file as perf_analyzer writes it; edges are in seconds."""
    experiments = [
        {
            "experiment": {"mode": mode, "value": value},
            "requests": [{"timestamp": EPOCH + sent, "response_timestamps": [EPOCH + done]} for sent, done in requests],
            "window_boundaries": [EPOCH + round(edge * S) for edge in edges],
        }
        for mode, value, requests, edges in levels
    ]
    path.write_text(json.dumps({"experiments": experiments, "version": "2.59.0"}))
    return path


def files(folder: Path, latency_ms: float = 4.0, count: int = 3) -> list[str]:
    found = []
    for index in range(count):
        path = folder / f"{latency_ms}-{index}.json"
        levels = [
            ("concurrency", float(level), served(latency_ms * level**0.5, level, 3.0, seed=index), [1.0, 2.0, 3.0])
            for level in (1, 4)
        ]
        found.append(str(profile(path, *levels)))
    return found


def level(tmp_path: Path, requests: list[tuple[int, int]], edges: list[float], value: float = 4) -> ProfileLevel:
    return read_profile(profile(tmp_path / "one.json", ("concurrency", value, requests, edges)))[0]


# Figures


def test_figures_follow_the_rule_for_edges(tmp_path: Path) -> None:
    """4 in flight at 4 ms on average is 1000 a second, whatever happens at the edges."""
    one, two = windows_of(level(tmp_path, served(4.0, 4, 3.0), [1.0, 2.0, 3.0]), 1)
    for window in (one, two):
        assert window.point == LoadPoint(4)
        assert window.throughput == pytest.approx(1000, rel=0.02)
        assert window.latency.quantile_ns(0.5) == pytest.approx(4 * MS, rel=0.03)
        assert window.latency.quantile_ns(0.9) == pytest.approx(5.6 * MS, rel=0.03)
        assert window.latency_mean_ns == pytest.approx(4 * MS, rel=0.03)
    assert one.window_s == 1.0
    assert 0.99 < two.window_s < 1.0  # what was in flight at its end is not in the file


def test_slow_requests_cut_off_at_the_end_do_not_bias_the_latency(tmp_path: Path) -> None:
    """One client: 1 ms and 400 ms in turns. Those that were cut off at the end are all slow."""
    requests, now = [], 0
    while now < 1.3 * S:
        for latency in (MS, 400 * MS):
            requests.append((now, now + latency))
            now += latency
    kept = [one for one in requests if one[1] <= 1.3 * S]
    (window,) = windows_of(level(tmp_path, kept, [0.0, 1.3], value=1), 1)
    assert window.latency_mean_ns == pytest.approx(200.5 * MS, rel=0.01)


def test_without_the_requests_before_the_window_throughput_counts_requests(tmp_path: Path) -> None:
    """This package writes only what was due in a window, and follows it to its end."""
    requests = [(index * 10 * MS, index * 10 * MS + 25 * MS) for index in range(100)]
    export = ProfileExport(tmp_path / "own.json", EPOCH)
    export.add("concurrency", 3, [closed_loop(*requests, start_ns=0, stop_ns=S)])
    export.close()
    (window,) = windows_of(read_profile(tmp_path / "own.json")[0], 8)
    assert (window.requests, window.throughput) == (100, 800)
    assert window.latency.quantile_ns(0.5) == pytest.approx(25 * MS, rel=0.005)
    assert window.point == LoadPoint(3, 8)


def test_without_edges_everything_is_one_window(tmp_path: Path) -> None:
    (window,) = windows_of(level(tmp_path, served(4.0, 4, 2.0), []), 1)
    assert window.window_s == pytest.approx(2.0, rel=0.01)
    assert window.findings == (Finding(WINDOWS_UNKNOWN),)


def test_without_edges_requests_that_were_sent_at_once_took_their_time(tmp_path: Path) -> None:
    """As many requests as the concurrency: nothing was due after the first instant."""
    (window,) = windows_of(level(tmp_path, [(0, 4 * MS)] * 16, [], value=16), 1)
    assert (window.requests, window.window_s) == (16, 0.004)
    assert window.throughput == pytest.approx(4000)


def test_a_rate_is_an_open_loop(tmp_path: Path) -> None:
    requests = [(index * 2 * MS, index * 2 * MS + MS) for index in range(1000)]
    path = profile(tmp_path / "rate.json", ("request_rate", 500.0, requests, [0.5, 1.5]))
    (window,) = windows_of(read_profile(path)[0], 1)
    assert (window.point.rate, window.point.concurrency) == (500.0, 0)
    assert window.throughput == pytest.approx(500, rel=0.01)


def test_runs_of_a_record(tmp_path: Path) -> None:
    record = record_of([Path(one) for one in files(tmp_path)], "resnet50", gpu="NVIDIA L4", commit="abc")
    assert [run.index for run in record.runs] == [0, 1, 2]
    assert list(figures_by_point(record.runs[:1])) == [LoadPoint(1), LoadPoint(4)]
    assert record.key == {"device": "NVIDIA L4", "test": "resnet50", "version": 1, "method_version": "perf_analyzer 1"}
    assert (record.status, record.commit) == ("complete", "abc")


@pytest.mark.parametrize("arguments", [{"test": " "}, {"test": "t", "batch_size": 0}])
def test_arguments_that_can_t_be_used(tmp_path: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=r"--test|--batch-size"):
        record_of([Path(one) for one in files(tmp_path, count=1)], **arguments)


# The command


def test_an_import_is_a_record_and_the_next_is_compared_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(str(tmp_path / "store"))
    for latency, verdict, status in (
        (4.0, "NO BASELINE", 0),
        (4.01, "unchanged|inconclusive", 0),
        (9.0, "regressed", 1),
    ):
        arguments = ["import", *files(tmp_path, latency), "--test", "resnet50", "--gpu", "NVIDIA L4"]
        assert gpuperf(store, *arguments) == 0
        text = capsys.readouterr().out
        assert text.startswith("resnet50: ")
        assert any(one in text for one in verdict.split("|")), text
        assert gpuperf(store, "compare") == status
        assert "resnet50" in capsys.readouterr().out
    entries = [entry for folder in store.folders() for entry in store.newest(folder)]
    assert [entry.rejected for entry in entries] == [True, False, False]


def test_other_hardware_is_not_comparable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(str(tmp_path / "store"))
    for gpu in ("NVIDIA L4", "NVIDIA T4"):
        assert gpuperf(store, "import", *files(tmp_path, count=1), "--test", "resnet50", "--gpu", gpu) == 0
    assert "NO BASELINE with this key" in capsys.readouterr().out
    assert gpuperf(store, "compare", "--require-baseline") == 1


def test_failed_requests_make_no_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(files(tmp_path, count=1)[0])
    document = json.loads(path.read_text())
    for request in document["experiments"][1]["requests"][::10]:
        request["response_timestamps"] = []
    path.write_text(json.dumps(document))
    store = Store(str(tmp_path / "store"))
    assert gpuperf(store, "import", str(path), "--test", "resnet50") == 0
    assert "too many requests failed" in capsys.readouterr().out
    (entry,) = (entry for folder in store.folders() for entry in store.newest(folder))
    assert entry.rejected


def test_a_bad_file_stores_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(str(tmp_path / "store"))
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    assert gpuperf(store, "import", *files(tmp_path), str(bad), "--test", "resnet50") == 1
    assert f"gpuperf: {bad} has no 'experiments'" in capsys.readouterr().err
    assert not Path(store.url).exists()


@pytest.mark.parametrize("commit", ["feature/x", "v1.2 rc", "abc", "1a2b3c4-dirty"])
@pytest.mark.parametrize("kind", ["perf_analyzer", "pytest-benchmark"])
def test_a_commit_is_a_hash(tmp_path: Path, commit: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(str(tmp_path / "store"))
    found = files(tmp_path) if kind == "perf_analyzer" else [str(benchmarks(tmp_path))]
    assert gpuperf(store, "import", *found, "--test", "resnet50", "--commit", commit) == 1
    assert f"--commit {commit}: write seven or more digits" in capsys.readouterr().err
    assert not Path(store.url).exists()
    assert gpuperf(store, "import", *found, "--test", "resnet50", "--commit", "1A2B3C4D5E") == 0
    (entry,) = (entry for folder in store.folders() for entry in store.newest(folder))
    assert (entry.commit, store.read(entry).commit) == ("1a2b3c4d", "1a2b3c4d5e")


def test_a_file_that_is_missing_or_cut_short_is_what_the_error_is_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(str(tmp_path / "store"))
    cut = tmp_path / "cut.json"
    cut.write_text('{"machine_info": {}, "benchmarks": [{"fullname": "t.py::t", "st')
    for path, problem in ((tmp_path / "none.json", "cannot be read"), (cut, "is not complete JSON")):
        assert gpuperf(store, "import", str(path)) == 1
        assert f"gpuperf: {path} {problem}" in capsys.readouterr().err
    assert not Path(store.url).exists()


def test_a_file_that_is_named_twice_is_not_two_fresh_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, (first, second) = Store(str(tmp_path / "store")), files(tmp_path, count=2)
    copy = tmp_path / "copy.json"
    copy.write_bytes(Path(first).read_bytes())
    for again in (first, str(copy)):
        assert gpuperf(store, "import", first, second, again, "--test", "resnet50") == 1
        assert f"gpuperf: {first} and {again} have the same content" in capsys.readouterr().err


def test_a_benchmark_without_usable_rounds_is_named_and_keeps_no_other_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, path = Store(str(tmp_path / "store")), tmp_path / "a.json"
    entries = [{"fullname": name, "stats": {"data": data}} for name, data in (("good", [0.1] * 9), ("bad", [-1.0]))]
    path.write_text(json.dumps({"machine_info": {}, "benchmarks": entries}))
    assert gpuperf(store, "import", str(path)) == 0
    output = capsys.readouterr()
    assert f"left out: {path}: bad has a round of -1.0" in output.err
    assert "good: NO BASELINE" in output.out
    assert [store.read(entry).test for folder in store.folders() for entry in store.newest(folder)] == ["good"]


def benchmarks(folder: Path) -> Path:
    """A file as pytest-benchmark writes it."""
    path = folder / "benchmarks.json"
    one = {"fullname": "test_resnet50", "stats": {"data": [0.001, 0.002]}}
    path.write_text(json.dumps({"machine_info": {}, "benchmarks": [one]}))
    return path


def test_the_first_import_begins_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["import", *files(tmp_path, count=1), "--test", "resnet50"]) == 0
    assert "stored as .gpuperf/unknown/resnet50-" in capsys.readouterr().out
