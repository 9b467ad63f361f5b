"""Fields that the user adds to the key, or takes out of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import PlainMapping

#: Without these a key would not say what was measured, and by which method.
_FIXED = ("device", "test", "version", "method_version")
_CHANGE = re.compile(r"[+-][A-Za-z_][\w.]*")
#: What differs from one reading to the next would make a baseline that is never found again.
_LIVE = re.compile(r"temperature|_c$|_mhz$|utili[sz]ation|_share$|free|co_tenants|pcie_generation")


@dataclass(frozen=True)
class KeyChange:
    """One field more, or less.

    Attributes:
        added: ``+FIELD``; else ``-FIELD``.
    """

    name: str
    added: bool

    @property
    def text(self) -> str:
        """As it was written."""
        return ("+" if self.added else "-") + self.name


def parse_key_changes(text: str) -> tuple[KeyChange, ...]:
    """``+driver -power_limit_w``; ``ValueError`` says what to write."""
    words = text.replace(",", " ").split()
    for word in words:
        if not _CHANGE.fullmatch(word):
            raise ValueError(f"{word!r} is no +FIELD or -FIELD; write for example +driver, or =-power_limit_w")
    return tuple(KeyChange(word[1:], word[0] == "+") for word in words)


def changed_key(key: PlainMapping, facts: PlainMapping, changes: Sequence[KeyChange]) -> PlainMapping:
    """The key after the user's changes.

    Args:
        key: the usual one.
        facts: of the environment; what may be added.

    Raises:
        OptionError: a field is unknown, can't be taken out, or is a live reading.
    """
    fields = dict(key)
    for change in changes:
        known = facts if change.added else key
        name = _field(change.name, known)
        if name is None and change.added and _field(change.name, key) is not None:
            continue  # it is part of the key anyway
        if name is None or name in _FIXED:
            raise OptionError(_refusal(change, key, facts))
        if not change.added:
            fields.pop(name, None)
        elif isinstance(facts[name], float) or _LIVE.search(name):
            raise OptionError(
                f"--gpuperf-key {change.text}: {name} is read anew every time ({facts[name]} now), so a key with it "
                "would never be found again. It is recorded, and shown beside every regression."
            )
        else:
            fields[name] = facts[name]
    return fields


def _field(name: str, known: PlainMapping) -> str | None:
    """The field of that name, which may be written without its unit: ``power_limit`` for ``power_limit_w``."""
    if name in known:
        return name
    with_unit = [one for one in known if one.rpartition("_")[0] == name]
    return with_unit[0] if len(with_unit) == 1 else None


def _refusal(change: KeyChange, key: PlainMapping, facts: PlainMapping) -> str:
    if change.added:
        may = ", ".join(sorted(name for name in facts if not isinstance(facts[name], float) and not _LIVE.search(name)))
        return f"--gpuperf-key {change.text}: there is no field {change.name} to add; there are: {may or 'none'}."
    may = ", ".join(sorted(name for name in key if name not in _FIXED))
    why = "is what every key has" if change.name in _FIXED else "is no field of this key"
    return f"--gpuperf-key={change.text}: {change.name} {why}; what can be taken out is: {may or 'nothing'}."
