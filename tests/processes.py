"""Processes that a test started."""

from __future__ import annotations

import time

import psutil


def ended(pid: int, within_s: float = 5.0) -> bool:
    """Return whether the process ends in time. An orphan may stay as a zombie where no process collects it."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def survivors(processes: list[psutil.Process], timeout_s: float = 15) -> list[psutil.Process]:
    """Return those of the processes that still run after the timeout."""
    _, remaining = psutil.wait_procs(processes, timeout=timeout_s)
    return [process for process in remaining if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
