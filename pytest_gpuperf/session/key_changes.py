"""Fields that the user adds to the comparison key, or removes from it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import PlainMapping

#: Fields that say what was measured, and by which method; they can't be removed.
_FIXED = ("device", "test", "version", "method_version")
_CHANGE = re.compile(r"[+-][A-Za-z_][\w.]*")
#: Live readings, with which no two records would have the same key.
_LIVE = re.compile(r"temperature|_c$|_mhz$|utili[sz]ation|_share$|free|co_tenants|pcie_generation")


@dataclass(frozen=True)
class KeyChange:
    """A field to add or remove.

    Attributes:
        added: Whether it is added (``+FIELD``) or removed (``-FIELD``).
    """

    name: str
    added: bool

    @property
    def text(self) -> str:
        """The change as the user writes it."""
        return ("+" if self.added else "-") + self.name


def parse_key_changes(text: str) -> tuple[KeyChange, ...]:
    """Parse changes such as ``+driver -power_limit_w``.

    Raises:
        ValueError: A change is malformed; the message says what to write.
    """
    words = text.replace(",", " ").split()
    for word in words:
        if not _CHANGE.fullmatch(word):
            raise ValueError(f"{word!r}: expected +FIELD or -FIELD; write for example +driver, or =-power_limit_w")
    return tuple(KeyChange(word[1:], word[0] == "+") for word in words)


class UnknownKeyField(OptionError):
    """A field to add is not among the facts."""


def changed_key(key: PlainMapping, facts: PlainMapping, changes: Sequence[KeyChange]) -> PlainMapping:
    """Return the key with the user's changes.

    Args:
        key: Key without changes.
        facts: Facts of the environment, which can be added.

    Raises:
        OptionError: A field is unknown, can't be removed, or is a live reading.
    """
    fields = dict(key)
    for change in changes:
        known = facts if change.added else key
        name = _field(change.name, known)
        if name is None and change.added and _field(change.name, key) is not None:
            continue  # part of the key already
        if name is None and change.added:
            raise UnknownKeyField(_refusal(change, key, facts))
        if name is None or name in _FIXED:
            raise OptionError(_refusal(change, key, facts))
        if not change.added:
            fields.pop(name, None)
        elif _is_live(name, facts):
            raise OptionError(
                f"--gpuperf-key {change.text}: {name} is a live reading ({facts[name]} now), so that no two records "
                "would have the same key. It is recorded, and shown with every regression."
            )
        else:
            fields[name] = facts[name]
    return fields


def _field(name: str, known: PlainMapping) -> str | None:
    """Return the key field with this name, which may lack its unit: ``power_limit`` for ``power_limit_w``."""
    if name in known:
        return name
    with_unit = [field for field in known if field.rpartition("_")[0] == name]
    return with_unit[0] if len(with_unit) == 1 else None


def _refusal(change: KeyChange, key: PlainMapping, facts: PlainMapping) -> str:
    if change.added:
        fields = [name for name in facts if not _is_live(name, facts)]
        return (
            f"--gpuperf-key {change.text}: there is no field {change.name}; "
            f"fields that can be added: {', '.join(sorted(fields)) or 'none'}."
        )
    fields = [name for name in key if name not in _FIXED]
    reason = "is part of every key" if change.name in _FIXED else "is not a field of this key"
    return (
        f"--gpuperf-key={change.text}: {change.name} {reason}; "
        f"fields that can be removed: {', '.join(sorted(fields)) or 'none'}."
    )


def _is_live(name: str, facts: PlainMapping) -> bool:
    return isinstance(facts[name], float) or _LIVE.search(name) is not None
