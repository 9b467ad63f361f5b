"""What the sweeps of these tests have in common."""

from __future__ import annotations

import math

import pytest

from pytest_gpuperf.analysis import guard


@pytest.fixture(autouse=True)
def unguarded_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other work on this machine keeps the load generator from its sockets; the guard has tests of its own.

    A sweep would rightly repeat or mark such windows, and these tests count them.
    """
    for limit in ("CLIENT_BUSY_SHARE", "STALLED_SHARE", "STARVED_SHARE", "LATE_SHARE"):
        monkeypatch.setattr(guard, limit, math.inf)
