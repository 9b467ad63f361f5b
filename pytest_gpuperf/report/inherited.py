"""What reports say about regressions that a change has inherited from the main branch."""

from __future__ import annotations

from pytest_gpuperf.model import MERGE_BASE, Comparison, Verdict
from pytest_gpuperf.report.figures import plural


def inherited_notes(comparison: Comparison) -> list[str]:
    """Return what is inherited from which record, or why that is unknown."""
    if comparison.merge_base_problem:
        return [f"not compared with the merge base: {comparison.merge_base_problem}"]
    if not comparison.inherited_from:
        return []
    record = f"record {comparison.inherited_from[0]}"
    if comparison.verdict is Verdict.INHERITED:
        return [
            f"inherited from the merge base: its {record} has regressed, too",
            f"  the regression holds{since_commit(comparison)}; this record joins no baseline",
        ]
    rows = len(comparison.of(Verdict.INHERITED))
    notes = [f"{plural(rows, 'row')} inherited from the merge base ({record})"] if rows else []
    if any(row.against == MERGE_BASE for row in comparison.rows):
        notes.append(f"against the merge base ({record}): the part of this change alone")
    return [*notes, f"  the main branch has regressed{since_commit(comparison)}"]


def since_commit(comparison: Comparison) -> str:
    """Return the commit since which an inherited regression holds, as `` since commit 1a2b3c4d``; empty if unknown."""
    return f" since commit {comparison.inherited_since[:8]}" if comparison.inherited_since else ""


def accept_command(comparison: Comparison, store_option: str = "") -> str:
    """Return the command that accepts the level of the main branch; empty unless the test has inherited it.

    Args:
        store_option: Option that leads the ``gpuperf`` command to the store.
    """
    if comparison.verdict is not Verdict.INHERITED:
        return ""
    return f'gpuperf baseline accept {comparison.inherited_from[0]}{store_option} --reason "..."'


def accept_lines(comparison: Comparison, store_option: str = "") -> list[str]:
    """Return the same with what it does, for the terminal."""
    command = accept_command(comparison, store_option)
    return ["if main is to stay at this level, accept it as the new baseline:", f"  {command}"] if command else []
