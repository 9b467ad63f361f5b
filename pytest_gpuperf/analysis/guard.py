"""What says that a window is not to be trusted."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_gpuperf.model import Run

#: A load generator this busy measures itself: above it, the time a response waits for the client is no longer small.
CLIENT_BUSY = 0.9
#: Share of failed requests from which a test fails. Not zero, since one reset connection in a long sweep on a shared
#: machine should be seen and not stop the work; every single one is still counted and shown.
ERROR_BUDGET = 0.01


def findings(*, window_s: float, client_cpu_s: float, lane_count: int, requests: int, errors: int) -> tuple[str, ...]:
    """The findings of one window, as sentences.

    Args:
        lane_count: processes or threads of the load generator that share the work.
    """
    found = []
    if client_cpu_s > CLIENT_BUSY * window_s * lane_count:
        found.append(f"the load generator was busy for {client_cpu_s / window_s / lane_count:.0%} of the window")
    if errors:
        found.append(f"{errors} of {requests + errors} requests failed")
    return tuple(found)


def error_report(runs: Sequence[Run]) -> str | None:
    """A description of the load points whose failed requests exceed the budget; None when all are within it."""
    totals: dict[str, tuple[int, dict[str, int]]] = {}
    for run in runs:
        for window in run.windows:
            requests, errors = totals.setdefault(f"{window.sweep}, {window.point.label}", (0, {}))
            for kind, count in window.errors.items():
                errors[kind] = errors.get(kind, 0) + count
            totals[f"{window.sweep}, {window.point.label}"] = (requests + window.requests, errors)
    lines = []
    for label, (requests, errors) in totals.items():
        failed = sum(errors.values())
        if failed > ERROR_BUDGET * (requests + failed):
            kinds = ", ".join(f"{kind} x {count}" for kind, count in sorted(errors.items(), key=lambda item: -item[1]))
            lines.append(f"  {label}: {failed} of {requests + failed} requests failed ({kinds})")
    return "\n".join(lines) or None
