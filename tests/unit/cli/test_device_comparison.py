from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_gpuperf.cli.device_comparison import compare_devices
from pytest_gpuperf.cli.main import main
from pytest_gpuperf.cli.stored_records import RecordReader
from pytest_gpuperf.report.markdown.comment import MAX_CHARACTERS
from pytest_gpuperf.report.markdown.device_comparison import device_comparison_comment
from pytest_gpuperf.store import Store
from tests.unit.cli.stores import gpuperf, measured
from tests.unit.factories import KEY


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Ten records of a T4; an L4 and an A10G that are 1.6 and 2.5 times as fast."""
    store = Store(str(tmp_path / "store"))
    for day in range(3):
        measured(store, f"74a{day}", 10.0, day=day, key={**KEY, "device": "Tesla T4"})
    measured(store, "14a0", 6.25, day=1, key={**KEY, "device": "NVIDIA L4"})
    measured(store, "a10a", 4.0, day=1, key={**KEY, "device": "NVIDIA A10G", "power_limit_w": 300})
    return store


def test_side_by_side(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpuperf(store, "compare", "--across", "gpu") == 0
    text = capsys.readouterr().out
    assert text.startswith("tests/test_serving.py::test_resnet50\n")
    assert re.search(r"serving: concurrency 1  Tesla T4 +100\.\d +11\.\d+ ms +\$1\.4\d\n", text)
    assert re.search(
        r"NVIDIA A10G +2[45]\d\.\d +2\.\d+x \[2\.\d+, 2\.\d+\] +4\.\d+ ms +0\.\d+x \[0\.\d+, 0\.\d+\] "
        r"+\$1\.1\d +1\.3\d*x",
        text,
    )
    assert re.search(r"serving: whole sweep +NVIDIA L4 +1\.\d+x", text)
    assert "x is the ratio to Tesla T4 with its 95% interval; nothing is gated" in text
    assert "Tesla T4: record 74a2 of 2026-01-03 00:00 UTC, commit 12345678" in text
    assert "differs on NVIDIA A10G: key: power_limit_w 72 -> 300" in text
    assert "price: g6.xlarge (NVIDIA L4): $0.8048/hour on 2025-11-30" in text


def test_another_base(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpuperf(store, "compare", "--across", "gpu", "--base", "l4", "--format", "json") == 0
    (found,) = json.loads(capsys.readouterr().out)["tests"]
    assert [side["device"] for side in found["sides"]] == ["NVIDIA L4", "Tesla T4", "NVIDIA A10G"]
    whole = found["sides"][1]["points"][-1]
    assert whole["point"] is None
    assert whole["ratios"]["throughput"]["value"] == pytest.approx(0.625, rel=0.02)
    assert gpuperf(store, "compare", "--across", "gpu", "--base", "H200") == 1
    error = capsys.readouterr().err
    assert "--base H200: tests/test_serving.py::test_resnet50 has no record on such a device" in error
    assert "it has records on: Tesla T4, NVIDIA L4" in error


def test_markdown(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpuperf(store, "compare", "--across", "gpu", "--format", "markdown") == 0
    text = capsys.readouterr().out
    assert text.startswith("### `tests/test_serving.py::test_resnet50`\n\n| load point | GPU | inf/s | x | p90 |")
    assert "* `x is the ratio to Tesla T4" in text


def test_a_comparison_needs_two_devices(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    measured(store, "other", 4.0, key={**KEY, "test": "tests/test_other.py::test_other"})
    assert gpuperf(store, "compare", "--across", "gpu", "--test", "other") == 1
    error = capsys.readouterr().err
    assert "was measured on two devices or more (these options choose records on: NVIDIA L4)" in error
    assert gpuperf(store, "compare", "--across", "gpu") == 0


def test_other_versions_of_a_test_are_other_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(str(tmp_path / "store"))
    measured(store, "aaaa", key=KEY)
    measured(store, "bbbb", key={**KEY, "device": "Tesla T4", "version": 2})
    assert gpuperf(store, "compare", "--across", "gpu") == 1
    assert "records on: NVIDIA L4, Tesla T4" in capsys.readouterr().err


def test_a_report_by_gpu_says_the_same(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpuperf(store, "compare", "--across", "gpu", "--format", "markdown") == 0
    compared = capsys.readouterr().out
    asked = ["report", "--by", "gpu", "--format", "markdown", "--title", "Cards", "--marker", "cards"]
    assert gpuperf(store, *asked) == 0
    head = "<!-- pytest-gpuperf report cards -->\n\n## `Cards`\n\n"
    assert capsys.readouterr().out == head + compared
    assert gpuperf(store, "report", "--by", "gpu", "--format", "html") == 1
    assert "--by gpu writes tables and Markdown, not html" in capsys.readouterr().err
    assert gpuperf(store, "report", "--by", "gpu", store.url, store.url) == 1
    assert "--by gpu takes one store" in capsys.readouterr().err
    assert main(["report", "--by", "gpu", "deadbeef"]) == 1
    assert "--by gpu takes a store: deadbeef is not a store" in capsys.readouterr().err


def test_many_tests_stay_a_comment(store: Store) -> None:
    one = replace(compare_devices(RecordReader(store), ())[0], test="t" * 3000)
    text = device_comparison_comment([one] * 40)
    assert len(text) <= MAX_CHARACTERS
    assert re.search(r"^> Shortened to fit GitHub's size limit for comments \(\d+ tests\)\.", text, re.M)
