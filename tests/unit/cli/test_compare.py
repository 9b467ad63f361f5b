from __future__ import annotations

import json
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.cli.main import main
from pytest_gpuperf.model import RuleSettings
from pytest_gpuperf.store import Store
from tests.unit.cli.stores import gpuperf, measured
from tests.unit.factories import KEY, record

OTHER = {**KEY, "test": "tests/test_other.py::test_other"}


@pytest.fixture(params=["directory", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Ten records of one test."""
    url = str(tmp_path / "store") if request.param == "directory" else f"memory://compare-{uuid.uuid4().hex}"
    store = Store(url)
    for day in range(10):
        measured(store, f"aaaa{day}", day=day)
    return store


def document(store: Store, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    status = gpuperf(store, "compare", "--format", "json", *arguments)
    return status, json.loads(capsys.readouterr().out)


def test_the_newest_against_those_before(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = document(store, capsys)
    (one,) = found["comparisons"]
    assert status == 0
    assert one["record"] == "aaaa9"
    assert one["baseline"] == [f"aaaa{day}" for day in range(8, -1, -1)]
    assert one["verdict"] == found["verdict"] != "regressed"
    assert {row["point"] for row in one["rows"]} == {None, "concurrency 1", "concurrency 2"}


def test_a_regression_exits_with_1(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    measured(store, "51042", 8.0, day=11, gate="failed", commit="fedcba9876")
    status, found = document(store, capsys)
    assert (status, found["verdict"]) == (1, "regressed")
    row = next(row for row in found["comparisons"][0]["rows"] if row["point"] == "concurrency 1")
    assert row["ratio"] == pytest.approx(2.0, rel=0.02)
    assert row["low"] < row["ratio"] < row["high"]
    assert {"where": "source", "name": "commit", "before": "1234567890", "after": "fedcba9876"} in found["comparisons"][
        0
    ]["changes"]


def test_the_table_shows_verdict_and_counts(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    measured(store, "51042", 8.0, day=11, gate="failed")
    assert gpuperf(store, "compare") == 1
    text = capsys.readouterr().out
    assert text.startswith("tests/test_serving.py::test_resnet50\n  record 51042 of 2026-01-12 00:00 UTC")
    assert "regressed  serving: concurrency 1  p50" in text
    assert "+100%" in text
    assert gpuperf(store, "compare", "--format", "markdown") == 1
    markdown = capsys.readouterr().out
    assert markdown.startswith("### `tests/test_serving.py::test_resnet50`\n\n**regressed**: record 51042")
    assert "| regressed | serving: concurrency 1 | p50 |" in markdown


def test_unchanged_rows_are_shown_when_asked_for(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    measured(store, "aaaa", 4.0, day=11)
    assert gpuperf(store, "compare", "--equivalence", "30%", "--all") == 0
    everything = capsys.readouterr().out
    assert gpuperf(store, "compare", "--equivalence", "30%") == 0
    assert everything.count("unchanged  serving") == 9
    assert "unchanged  serving" not in capsys.readouterr().out


def test_all_tests_of_the_invocation(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    measured(store, "other", day=9, key=OTHER)  # the factories give all records one invocation
    _, found = document(store, capsys)
    assert [one["record"] for one in found["comparisons"]] == ["other", "aaaa9"]
    _, found = document(store, capsys, "--test", "other")
    assert [(one["record"], one["verdict"]) for one in found["comparisons"]] == [("other", "no baseline")]


def test_a_newest_record_that_can_t_be_read_is_named_and_fails(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    measured(store, "other", day=9, key=OTHER)
    entry = store.find("aaaa9")
    store.files.put(entry.path, store.files.read(entry.path)[:-20])
    status = gpuperf(store, "compare", "--format", "json")
    captured = capsys.readouterr()
    assert status == 1
    assert [one["record"] for one in json.loads(captured.out)["comparisons"]] == ["other"]
    assert "gpuperf: unreadable: " in captured.err
    assert entry.name in captured.err


def test_a_test_is_looked_for_in_the_newest_invocation_that_has_it(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.write(replace(record([[4.0]] * 3, name="other", minute=20_000, key=OTHER), invocation="later"))
    _, found = document(store, capsys, "--test", "resnet50")
    assert [one["record"] for one in found["comparisons"]] == ["aaaa9"]
    _, found = document(store, capsys)
    assert [one["record"] for one in found["comparisons"]] == ["other"]
    assert gpuperf(store, "compare", "--test", "bert") == 1
    assert "No record of a test whose id contains 'bert' to compare in " in capsys.readouterr().err


def test_an_older_record(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    _, found = document(store, capsys, "aaaa3")
    assert found["comparisons"][0]["baseline"] == ["aaaa2", "aaaa1", "aaaa0"]


def test_against_what_was_pinned(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    gpuperf(store, "baseline", "pin", "aaaa2", "--reason", "release")
    capsys.readouterr()
    _, both = document(store, capsys)
    assert {row["against"] for row in both["comparisons"][0]["rows"]} == {"baseline", "pinned"}
    _, pinned = document(store, capsys, "--baseline", "pinned")
    assert pinned["comparisons"][0]["baseline"] == ["aaaa2"]
    _, one = document(store, capsys, "--baseline", "aaaa4")
    assert one["comparisons"][0]["baseline"] == ["aaaa4"]
    assert gpuperf(store, "compare", "--baseline", "newest") == 1
    assert "write both, rolling, pinned" in capsys.readouterr().err


def test_slow_creep_is_detected_against_a_pinned_record(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Two percent a record: the window follows, the pinned one does not."""
    gpuperf(store, "baseline", "pin", "aaaa9", "--reason", "release")
    for step in range(1, 31):
        measured(store, f"c{step:03}", 4.0 * 1.02**step, day=10 + step)
    capsys.readouterr()
    _, rolling = document(store, capsys, "--baseline", "rolling")
    status, both = document(store, capsys)
    against = {row["against"] for row in both["comparisons"][0]["rows"] if row["verdict"] == "regressed"}
    assert status == 1
    assert "pinned" in against
    assert rolling["comparisons"][0]["baseline"] == [f"c{step:03}" for step in range(29, 9, -1)]


def test_without_a_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(str(tmp_path / "store"))
    measured(store, "aaaa0")
    status, found = document(store, capsys)
    assert (status, found["verdict"]) == (0, "no baseline")
    status, _ = document(store, capsys, "--require-baseline")
    assert status == 1


def test_what_is_not_comparable_names_the_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(str(tmp_path / "store"))
    measured(store, "aaaa0", key={**KEY, "power_limit_w": 60})
    measured(store, "aaaa1", day=1)
    _, found = document(store, capsys)
    (one,) = found["comparisons"]
    assert (one["verdict"], one["differing"]) == ("not comparable", {"power_limit_w": [60, 72]})
    gpuperf(store, "compare")
    assert "power_limit_w is 60, not 72" in capsys.readouterr().out
    assert gpuperf(store, "compare", "--require-baseline") == 1


def test_which_metrics_gate(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    _, found = document(store, capsys, "--metrics", "p50,throughput")
    assert {row["metric"] for row in found["comparisons"][0]["rows"]} == {"p50", "throughput"}


def test_a_record_is_judged_by_the_rule_of_its_test(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    rule = RuleSettings(alpha=0.01, min_effect=0.5, metrics=frozenset({"p50", "p99"}))
    store.write(replace(record([[5.2, 9.4]] * 3, name="5e77", minute=20_000), rule=rule))
    status, found = document(store, capsys)
    (one,) = found["comparisons"]
    assert (status, one["alpha"], one["min_effect"]) == (0, 0.01, 0.5)
    assert {row["metric"] for row in one["rows"]} == {"p50"}
    assert one["left_out"] == ["serving: concurrency 1, p99", "serving: concurrency 2, p99"]
    status, found = document(store, capsys, "--alpha", "5%", "--min-effect", "0", "--metrics", "p50,p90")
    (one,) = found["comparisons"]
    assert (status, one["alpha"], one["min_effect"]) == (1, 0.05, 0.0)
    assert {row["metric"] for row in one["rows"]} == {"p50", "p90"}


def test_a_record_that_was_cut_short(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    measured(store, "c0710", day=11, status="incomplete", gate="open")
    assert gpuperf(store, "compare") == 1
    assert "was cut short" in capsys.readouterr().err


def test_an_empty_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpuperf(Store(str(tmp_path)), "compare") == 1
    assert "No record to compare in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--alpha", "0"], "above 0 and up to 50%"),
        (["--alpha", "five"], "above 0 and up to 50%"),
        (["--min-effect", "100%"], "below 1"),
        (["--metrics", "p50,p75"], "p50, p90, p95"),
        (["--format", "xml"], "markdown"),
    ],
)
def test_mistakes_say_what_to_write(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compare", *arguments])
    assert message in capsys.readouterr().err
