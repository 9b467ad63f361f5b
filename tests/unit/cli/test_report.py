from __future__ import annotations

import json
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.cli.main import main
from pytest_gpuperf.model import LookShares, PlainMapping, RuleSettings
from pytest_gpuperf.store import Store
from tests.unit.cli.stores import gpuperf, measured
from tests.unit.factories import KEY, record

OTHER: PlainMapping = {**KEY, "test": "tests/test_other.py::test_other"}


@pytest.fixture(params=["directory", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Five records of one test, the newest of which is half as slow again."""
    url = str(tmp_path / "store") if request.param == "directory" else f"memory://report-{uuid.uuid4().hex}"
    store = Store(url)
    for day in range(4):
        measured(store, f"aaaa{day}", day=day)
    measured(store, "51042", 6.0, day=5, gate="failed", commit="fedcba9876")
    return store


def document(store: Store, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert gpuperf(store, "report", "--format", "json", *arguments) == 0
    return json.loads(capsys.readouterr().out)


def test_the_newest_invocation_with_its_verdict(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    (one,) = document(store, capsys)["tests"]
    assert (one["record"], one["verdict"], one["error"]) == ("51042", "regressed", "")
    assert one["baseline"] == ["aaaa3", "aaaa2", "aaaa1", "aaaa0"]
    assert one["baseline_curves"][0]["points"][0]["p50_ns"] == pytest.approx(4e6, rel=0.02)


def test_the_formats(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpuperf(store, "report") == 0
    text = capsys.readouterr().out
    assert text.startswith(
        "tests/test_serving.py::test_resnet50\n  regressed: 3 runs compared with 4 baseline records\n"
    )
    assert text.endswith("1 test: 1 regressed\n")
    assert gpuperf(store, "report", "--format", "markdown", "--title", "L4", "--marker", "l4") == 0
    text = capsys.readouterr().out
    assert text.startswith("<!-- pytest-gpuperf report l4 -->\n\n## ❌ gpuperf: `L4`: 1 test regressed\n")
    assert f"gpuperf baseline accept 51042 --store {store.url}" in text
    assert gpuperf(store, "report", "--format", "csv") == 0
    assert capsys.readouterr().out.startswith("Concurrency,Inferences/Second,")


def test_a_file_s_ending_is_its_format(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out" / "comment.md"
    assert gpuperf(store, "report", "--output", str(path)) == 0
    assert path.read_text().startswith("<!-- pytest-gpuperf report -->")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"{path}\n")
    assert gpuperf(store, "report", "--output", "report.txt") == 1
    assert "ends in .md" in capsys.readouterr().err


def test_a_record_by_its_id_and_its_whole_invocation(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    measured(store, "07e4", day=3, key=OTHER)  # the factories give all records one invocation and commit
    (one,) = document(store, capsys, "aaaa3")["tests"]
    assert (one["record"], one["baseline"]) == ("aaaa3", ["aaaa2", "aaaa1", "aaaa0"])
    found = document(store, capsys, "aaaa3", "--invocation")["tests"]
    assert {test["record"] for test in found} == {"aaaa3", "aaaa2", "07e4"}  # of that commit, on that day or beside it
    found = document(store, capsys, "f0f0")["tests"]
    assert len(found) == 6
    (one,) = document(store, capsys, "--test", "serving")["tests"]
    assert one["record"] == "51042"


def test_several_stores_are_several_sections(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    urls = []
    for device in ("NVIDIA L4", "NVIDIA A10G"):
        store = Store(str(tmp_path / device.replace(" ", "-")))
        for day in range(3):
            measured(store, f"aaaa{day}", day=day, key={**KEY, "device": device})
        urls.append(store.url)
    assert main(["report", *urls, "--format", "markdown"]) == 0
    text = capsys.readouterr().out
    assert text.index("### NVIDIA L4") < text.index("### NVIDIA A10G")
    assert f"--gpuperf-store={urls[1]}" in text


def test_a_test_that_failed_for_another_reason_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(str(tmp_path / "store"))
    measured(store, "aaaa0", gate="failed")
    (one,) = document(store, capsys)["tests"]
    assert "reason other than its figures" in one["error"]
    # An undecided record is never rejected for its figures.
    measured(store, "aaaa1", day=1)
    measured(store, "aaaa2", day=2, gate="failed")
    (one,) = document(store, capsys)["tests"]
    assert one["verdict"] == "inconclusive"
    assert "reason other than its figures" in one["error"]


def test_a_record_that_was_cut_short_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(str(tmp_path / "store"))
    measured(store, "c0710", status="incomplete", gate="open")
    (one,) = document(store, capsys)["tests"]
    assert (one["status"], one["verdict"]) == ("incomplete", "no baseline")


def test_a_report_compares_as_the_gate_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A fiftieth of the alpha for single tests, and of that a look's share: what the test had to spend."""
    store = Store(str(tmp_path / "store"))
    measured(store, "aaaa0")
    stated = RuleSettings(alpha=0.05, tests=50, looks={"serving": LookShares(0.25)}, min_effect=0.02)
    newest = replace(record([[4.0, 7.2]] * 3, name="5e77", minute=20_000), rule=stated, invocation="ab" * 16)
    store.write(newest)
    from pytest_gpuperf.cli.judging import rule_for

    rule = rule_for(newest)
    assert rule.test_alpha == pytest.approx(0.85 * 0.05 / 50)
    assert rule.looks == stated.looks
    (one,) = document(store, capsys)["tests"]
    assert (one["alpha"], one["min_effect"]) == (0.05, 0.02)


def test_a_test_is_looked_for_in_the_newest_invocation_that_has_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(str(tmp_path / "store"))
    measured(store, "aaaa0")
    later = record([[4.0]] * 3, name="0123", minute=20_000, key=OTHER)
    store.write(replace(later, invocation="ab" * 16))
    assert [one["record"] for one in document(store, capsys, "--test", "resnet50")["tests"]] == ["aaaa0"]
    assert [one["record"] for one in document(store, capsys)["tests"]] == ["0123"]


def test_what_can_t_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the baseline, and of what was to be reported."""
    store = Store(str(tmp_path / "store"))
    for day in range(3):
        measured(store, f"aaaa{day}", day=day)
    (path,) = (tmp_path / "store").rglob("*aaaa1.json")
    path.write_text("{")
    assert gpuperf(store, "report") == 1
    captured = capsys.readouterr()
    assert "3 runs compared with 1 baseline record\n" in captured.out
    assert captured.err.count("unreadable") == 1
    assert "aaaa1" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere/at-all"], "neither a record's id nor a store"),
        (["deadbeef"], "no record or invocation deadbeef"),
        (["aaaa"], "4 records in"),
        (["--test", "nothing"], "No record has a test whose id contains 'nothing'"),
    ],
)
def test_mistakes_say_what_to_do(
    store: Store, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert gpuperf(store, "report", *arguments) == 1
    assert message in capsys.readouterr().err


def test_an_empty_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpuperf(Store(str(tmp_path)), "report") == 1
    assert "Measure with: pytest --gpuperf" in capsys.readouterr().err


def test_a_report_loads_what_it_needs_and_no_more(tmp_path: Path) -> None:
    """It should be there within a second: half of that is numpy and scipy, which the comparison needs."""
    store = Store(str(tmp_path / "store"))
    measured(store, "aaaa0")
    code = (
        "import sys; from pytest_gpuperf.cli.main import main; "
        f"main(['report', {store.url!r}, '--format', 'markdown']); "
        "sys.exit(str({'scipy.stats', 'pytest', 'tritonclient', 'grpc', 'httptools', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "set()"


def test_the_page_has_charts_and_costs(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """An L4 has a price in the table that comes with the package."""
    assert gpuperf(store, "report", "--format", "html") == 0
    text = capsys.readouterr().out
    assert text.startswith("<!doctype html>")
    assert "1 of 1 tests regressed" in text or "1 test regressed" in text
    assert "per million" in text
    assert "g6." in text
