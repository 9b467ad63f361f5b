"""docs/cost.md shows what the commands print."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pytest_gpuperf.store import Store
from tests.unit.cli.stores import gpuperf, two_gpus

PAGE = Path(__file__).parents[3] / "docs" / "cost.md"
EXAMPLES = re.findall(r"^```console\n\$ gpuperf (.*)\n((?:.*\n)*?)```$", PAGE.read_text(), re.MULTILINE)


def test_there_are_examples() -> None:
    assert [command.split()[0] for command, _ in EXAMPLES] == ["cost", "cost", "cost", "compare"]


@pytest.mark.parametrize(("command", "shown"), EXAMPLES, ids=[command for command, _ in EXAMPLES])
def test_what_the_page_shows(command: str, shown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(str(tmp_path))
    two_gpus(store)
    gpuperf(store, *shlex.split(command))
    assert capsys.readouterr().out == shown
