from __future__ import annotations

import re
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_gpuperf.cli.main import main
from pytest_gpuperf.model import Memory
from pytest_gpuperf.store import Store
from tests.unit.cli.stores import gpuperf, measured
from tests.unit.factories import KEY, record, run

STEP = 20


@pytest.fixture(params=["directory", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Thirty days; 8% slower from the 21st record on; one failed and one duet, both of them far off."""
    url = str(tmp_path / "store") if request.param == "directory" else f"memory://history-{uuid.uuid4().hex}"
    store = Store(url)
    for day in range(30):
        commit = f"{day:02}abcdef0123"
        measured(store, f"{day:012x}", 4.0 if day < STEP else 4.32, day=day, commit=commit)
    measured(store, "feed00000000", 9.0, day=25, gate="failed")
    store.write(replace(record(name="d0e700000000", minute=36_000), reference=(run(),)))
    measured(store, "c01d00000000", 4.0, day=26, gate="open", status="incomplete")
    return store


def test_a_change_of_the_level_is_marked(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpuperf(store, "history") == 0
    text = capsys.readouterr().out
    assert "tests/test_serving.py::test_resnet50\n  NVIDIA L4, key " in text
    assert "p50 of serving, all load points, 31 records" in text
    match = re.search(r"1: 2026-01-21 commit 20abcdef: \+(\d\.\d)% \((\S+) ms -> (\S+) ms\)", text)
    assert match, text
    assert float(match[1]) == pytest.approx(8, abs=0.6)
    assert "x failed the gate" in text
    assert max(map(len, text.splitlines())) <= 80


def test_other_metrics_and_points(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpuperf(store, "history", "--metric", "throughput", "--metric", "p90", "--point", "concurrency 2") == 0
    text = capsys.readouterr().out
    titles = re.findall(r"^  (\S+ of .*), 31 records", text, re.M)
    assert titles == ["throughput of serving, concurrency 2", "p90 of serving, concurrency 2"]
    assert re.search(r"1: 2026-01-21 commit 20abcdef: -7\.\d% \([\d.]+ inf/s", text)
    assert gpuperf(store, "history", "--point", "concurrency") == 0
    assert capsys.readouterr().out.count(", 31 records") == 2


def test_last_limits_the_plotted_records(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpuperf(store, "history", "--last", "8") == 0
    text = capsys.readouterr().out
    assert "no change of level" in text


def test_how_many_records_is_a_number(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpuperf(store, "history", "--last", "-1")
    assert "write a whole number of 1 or more" in capsys.readouterr().err
    assert gpuperf(store, "history", "--last", "1") == 0
    assert "all load points, 1 record\n" in capsys.readouterr().out


def test_memory_of_the_host_has_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(str(tmp_path / "store"))
    for day in range(3):
        made = record([[4.0]] * 3, name=f"{day:012x}", minute=1440 * day)
        runs = tuple(
            replace(one, windows=tuple(replace(w, memory=Memory(host_bytes=3 << 30)) for w in one.windows))
            for one in made.runs
        )
        store.write(replace(made, runs=runs))
    assert gpuperf(store, "history", "--metric", "host_memory") == 0
    assert "3.03 GiB |" in capsys.readouterr().out
    assert gpuperf(store, "history", "--metric", "host_memory", "--html", str(tmp_path / "h.html")) == 0
    assert "host_memory (GiB)" in (tmp_path / "h.html").read_text()


def test_a_page(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "deep" / "history.html"
    assert gpuperf(store, "history", "--html", str(page)) == 0
    assert capsys.readouterr().out == f"{page}: 9 plots\n"
    text = page.read_text()
    for name in ("p50", "p90", "throughput"):
        for point in ("all load points", "concurrency 1", "concurrency 2"):
            assert f"{name} of serving, {point}" in text
    assert text.count("20abcdef") >= 9


def test_a_page_that_can_t_be_written(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpuperf(store, "history", "--html", str(tmp_path)) == 1
    assert "can't be written" in capsys.readouterr().err


def test_each_key_has_a_plot_of_its_own(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for day in range(3):
        measured(store, f"b{day}", key={**KEY, "version": 2}, day=day)
    assert gpuperf(store, "history") == 0
    assert capsys.readouterr().out.count("tests/test_serving.py::test_resnet50") == 2
    assert gpuperf(store, "history", "--test", "serving", "--sweep", "serv") == 0
    assert capsys.readouterr().out.count("of serving") == 2


def test_records_with_other_points_are_left_out(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for day in range(31, 34):
        measured(store, f"b{day}", 4.32, points=(1.0, 1.8, 3.0), day=day)
    assert gpuperf(store, "history") == 0
    text = capsys.readouterr().out
    assert "all load points, 3 records" in text
    assert "left out: 31 records without these load points" in text


@pytest.mark.parametrize("arguments", [["--test", "nothing"], ["--point", "nothing"], ["--sweep", "nothing"]])
def test_nothing_to_plot_is_an_error(store: Store, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert gpuperf(store, "history", *arguments) == 1
    assert "Nothing to plot in" in capsys.readouterr().err


def test_a_metric_without_values_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["history", "--metric", "p75"])
    assert "p50" in capsys.readouterr().err


def test_a_change_of_runner_is_no_change_of_the_code(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for day in range(30, 50):
        measured(store, f"b{day:011x}", 4.6, day=day, device="GPU-of-another-runner")
    assert gpuperf(store, "history") == 0
    text = capsys.readouterr().out
    assert re.search(r"1: 2026-01-21 commit 20abcdef: \+[78]\.", text)
    assert "2: " not in text
    assert "  2 devices: values are shown as on the newest record's" in text
