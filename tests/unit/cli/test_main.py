from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_gpuperf.cli.main import main


@pytest.mark.parametrize(
    ("line", "usage", "advice"),
    [
        ("sweep -m flower --concurency-range 1:4", "gpuperf sweep ", "--concurrency-range"),
        ("compare --stor .gpuperf-x --tset x", "gpuperf compare ", "--test"),
        ("baseline accept 1a --reason ok --autor=me", "gpuperf baseline accept ", "--author"),
        ("sweep -m flower surplus", "gpuperf sweep ", ""),
    ],
)
def test_a_mistyped_option_shows_the_usage_of_its_command(
    line: str, usage: str, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as status:
        main(line.split())
    message = capsys.readouterr().err
    assert status.value.code == 2
    assert message.startswith(f"usage: {usage}")
    assert ("did you mean" in message) == bool(advice)
    assert advice in message.splitlines()[-1]


@pytest.mark.parametrize(
    ("redirection", "status", "output"),
    [
        (">&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        (">/dev/full", 1, "gpuperf: [Errno 28] No space left on device"),
        (">/dev/full 2>/dev/full", 1, ""),
    ],
)
def test_standard_streams_that_are_closed_or_full(redirection: str, status: int, output: str, tmp_path: Path) -> None:
    line = f"{sys.executable} -m pytest_gpuperf.cli.main baseline list --store {tmp_path} {redirection}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, (done.stderr or done.stdout)[: len(output) or None]) == (status, output)


def test_an_interrupt_or_a_lack_of_memory_while_a_command_is_imported_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for raised, status, message in (
        (KeyboardInterrupt(), 130, ""),
        (MemoryError(), 1, "gpuperf: The memory of this process is used up."),
        (ImportError("x.so: failed to map segment"), 1, "gpuperf: A library can't be loaded: x.so: failed to map"),
    ):

        def fail(_: object, raised: BaseException = raised) -> None:
            raise raised

        monkeypatch.setattr("pytest_gpuperf.cli.main._parser", fail)
        assert main(["history"]) == status
        assert capsys.readouterr().err.startswith(message)
