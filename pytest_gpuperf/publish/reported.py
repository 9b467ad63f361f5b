"""The records that reports are made of: a session with its curves, and what the store has beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice

from pytest_gpuperf.analysis.cost import point_costs
from pytest_gpuperf.errors import UnreadableSession
from pytest_gpuperf.model import Price, Reported, Session, curves_of
from pytest_gpuperf.publish.carried import Carried
from pytest_gpuperf.store import Entry, Store

#: Sessions of a chart over time. Each costs a file to read and its histograms in memory.
MOST_HISTORY = 30
_BUDGET = re.compile(r"(?P<metric>p\d+)=(?P<limit_ms>\d+(?:\.\d+)?(?:e[+-]?\d+)?)")


def reported_of(
    store: Store,
    carried: Carried,
    *,
    baseline: Sequence[Session] = (),
    prices: Sequence[Price] = (),
    deep: bool = False,
) -> Reported:
    """What a report shows of one test.

    Args:
        prices: of machines, the newest of each.
        baseline: sessions of its baseline that were read already.
        deep: for charts: also the whole baseline, and the sessions before it.

    Raises:
        StoreError: the store can't be listed.
    """
    session, comparison = carried.session, carried.comparison
    wanted = comparison.baseline if deep else comparison.baseline[:1]
    known = {one.id: one for one in baseline}
    duet = comparison.mode == "duet"
    if not duet:
        known |= {one.id: one for one in _read(store, session, set(wanted) - known.keys())}
    found = tuple(known[name] for name in wanted if name in known) if not duet else ()
    base = session.reference if duet else found[0].runs if found else ()
    curves = curves_of(session.runs)
    return Reported(
        session=session,
        curves=curves,
        comparison=comparison,
        base_curves=curves_of(base),
        baseline=found,
        history=_history(store, session, known) if deep and not duet else (),
        costs=point_costs(curves, session.key, prices),
        budgets=_budgets(session),
        path=carried.path,
        store_option=carried.store_option,
        error=carried.error,
        file=carried.file,
        line=carried.line,
    )


def _budgets(session: Session) -> tuple[tuple[str, float], ...]:
    """As the session's settings have them."""
    found = (_BUDGET.fullmatch(one) for one in str(session.settings.get("budgets_ms", "")).split())
    return tuple((match["metric"], float(match["limit_ms"])) for match in found if match)


def _read(store: Store, session: Session, ids: set[str]) -> list[Session]:
    """Sessions of the same key by their ids; those that are gone, or can't be read any more, are left out."""
    found: list[Session] = []
    for entry in store.newest(store.folder(session.key)) if ids else ():
        if entry.id in ids:
            ids = ids - {entry.id}
            session_read = _readable(store, entry)
            found += [session_read] if session_read else []
        if not ids:
            break
    return found


def _history(store: Store, session: Session, known: dict[str, Session]) -> tuple[Session, ...]:
    """The whole sessions of its key up to this one, oldest first, and itself as the last."""
    entries = (entry for entry in store.newest(store.folder(session.key)) if not entry.duet)
    own = store.path(session).rpartition("/")[2]
    earlier = islice((entry for entry in entries if entry.name < own), MOST_HISTORY - 1)
    found = [known.get(entry.id) or _readable(store, entry) for entry in earlier]
    return (*reversed([one for one in found if one is not None and one.status == "complete"]), session)


def _readable(store: Store, entry: Entry) -> Session | None:
    """None for what can't be read: the gate names it, and a chart does without."""
    try:
        return store.read(entry)
    except UnreadableSession:
        return None
