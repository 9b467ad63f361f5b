from __future__ import annotations

from io import StringIO

import pytest
from _pytest.terminal import TerminalReporter

from pytest_gpuperf.measure import Progress
from pytest_gpuperf.session.console import Console


def shown(
    pytester: pytest.Pytester, *progress: Progress, arguments: tuple[str, ...] = (), terminal: bool = True
) -> str:
    """Return what a console writes into a log."""
    config, file = pytester.parseconfig(*arguments), StringIO()
    console = Console(config)
    if terminal:
        config.pluginmanager.register(TerminalReporter(config, file), "terminalreporter")
    for step in progress:
        console.progress(step)
    console.waiting("process 7")
    console.clear()
    return file.getvalue()


def test_a_verbose_log_has_a_line_for_every_run(pytester: pytest.Pytester) -> None:
    steps = [Progress("serving", run, 2, "run done", 0.5, 3.0) for run in range(2)]
    text = shown(pytester, *steps, arguments=("-v",))
    assert "run 1 of 2 done" in text
    assert "run 2 of 2 done" in text
    assert "waiting for the device, which process 7 is measuring on" in text


def test_workers_and_very_quiet_runs_write_nothing(pytester: pytest.Pytester) -> None:
    step = Progress("serving", 0, 2, "run done", 0.5, 3.0)
    assert shown(pytester, step, terminal=False) == ""
    assert shown(pytester, step, arguments=("-qq",)) == ""
