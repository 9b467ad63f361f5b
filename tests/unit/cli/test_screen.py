"""What the commands print fits a terminal of 80 columns; a file gets every column."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_gpuperf.cli.main import main
from pytest_gpuperf.report.wrapping import wrapped
from pytest_gpuperf.store import Store
from tests.unit.cli.stores import gpuperf, measured, two_gpus
from tests.unit.factories import KEY

LONG = {**KEY, "test": "services/recommendation/tests/performance/test_serving.py::test_ranking[fp16-tensorrt-b8]"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A slow drift with a regression at the end, under a pinned baseline, and a test on two GPU models."""
    store = Store(str(tmp_path / "store"))
    two_gpus(store)
    for day in range(6):
        measured(store, f"aaaa{day}", day=day, key=LONG)
    gpuperf(store, "baseline", "pin", "aaaa0", "--reason", "release")
    measured(store, "51042", 8.0, day=11, gate="failed", commit="fedcba9876", key=LONG)
    return store


@pytest.mark.parametrize(
    "command",
    [
        ["compare"],
        ["compare", "--all"],
        ["report"],
        ["baseline", "list"],
        ["baseline", "show", "51042"],
        ["history"],
        ["compare", "--across", "gpu"],
        ["cost"],
        ["cost", "--qps", "100", "--p90", "300ms"],
        ["cost", "--list-prices"],
    ],
    ids=" ".join,
)
def test_no_line_is_wider_than_the_terminal(
    command: list[str], store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    capsys.readouterr()
    monkeypatch.setenv("COLUMNS", "80")
    main(command) if "--list-prices" in command else gpuperf(store, *command)
    narrow = capsys.readouterr().out
    # A word that is longer than the screen, such as a test's id or a path, is not cut: it can be copied.
    assert [line for line in narrow.splitlines() if len(line) > 80 and " " in line.strip()] == []
    assert narrow.strip()


def test_a_narrow_comparison_still_says_what_regressed_and_a_file_gets_all_columns(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    capsys.readouterr()
    monkeypatch.setenv("COLUMNS", "80")
    assert gpuperf(store, "compare") == 1
    narrow = capsys.readouterr().out
    monkeypatch.delenv("COLUMNS")
    assert gpuperf(store, "compare") == 1
    full = capsys.readouterr().out
    assert narrow.count("regressed") == full.count("regressed") > 2
    titles = next(line for line in full.splitlines() if "verdict" in line)
    assert [name in titles for name in ("detectable", "against", "p ")] == [True] * 3
    assert "wider terminal" in narrow
    assert "against" in narrow  # two baselines must be told apart


def test_a_sentence_continues_indented_and_a_path_is_never_broken() -> None:
    path = f"/{'folder/' * 12}file.json"
    lines = wrapped(["  changed: driver 550.54.15 -> 560.28.03, and what follows it", f"  stored as {path}"], 40)
    assert lines == [
        "  changed: driver 550.54.15 ->",
        "    560.28.03, and what follows it",
        "  stored as",
        f"    {path}",
    ]
    assert wrapped([f"  stored as {path}"], 0) == [f"  stored as {path}"]
