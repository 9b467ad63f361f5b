"""Times in the names of files.

The clocks of machines differ, so no order depends on one clock alone. Times later than this machine's clock allows are
recognised here, and a new file gets a time after that of the files that it follows.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from pytest_gpuperf.clock import wall_s

#: The clock of the machine that wrote a file may be ahead of this machine's by this much.
TOLERANCE = timedelta(hours=1)
#: Length of the time with which the names of records and notes begin, to the millisecond: ``20260131T235959999``.
_DIGITS = 18


def now() -> datetime:
    """Return the real time, also where a suite has frozen it."""
    return datetime.fromtimestamp(wall_s(), timezone.utc)


def stem(moment: datetime) -> str:
    """Return a time as the names of files begin; such texts sort by time."""
    return f"{moment:%Y%m%dT%H%M%S}{moment.microsecond // 1000:03}"


def stem_of(utc: str) -> str:
    """Return the stem of a time in the format of records; empty if the text is not such a time."""
    try:
        return stem(datetime.fromisoformat(utc).astimezone(timezone.utc))
    except (ValueError, OverflowError):
        return ""


def time_of(name: str) -> str:
    """Return the time with which the name of a record or note begins."""
    return name[:_DIGITS]


def latest() -> str:
    """Return the latest time that a file may have; later ones are in the future."""
    return stem(now() + TOLERANCE)


def is_future(name: str) -> bool:
    """Return whether a file is dated in the future, by its name."""
    return time_of(name) > latest()


def is_older(name: str, hours: float) -> bool:
    """Return whether a file was dated more than so many hours ago, by its name."""
    return time_of(name) < stem(now() - timedelta(hours=hours))


def moment_after(name: str, step: timedelta) -> datetime:
    """Return this moment, or one ``step`` after a file's time if that is later. A file of the future doesn't count."""
    moment = now()
    try:
        before = datetime.strptime(time_of(name) + "000", "%Y%m%dT%H%M%S%f").replace(tzinfo=timezone.utc)
    except ValueError:
        return moment
    return moment if is_future(name) else max(moment, before + step)
