"""Digests, folder names and differences of comparison keys, which ``session.context`` builds."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping

from pytest_gpuperf.model import Plain, PlainMapping


def key_digest(key: PlainMapping) -> str:
    """Return twelve hexadecimal digits that identify a key."""
    return hashlib.sha256(canonical(key).encode()).hexdigest()[:12]


def canonical(data: object) -> str:
    """Serialise data as JSON that does not depend on the order in which mappings were built."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def slug(text: str) -> str:
    """Return a folder name that people recognise."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "unnamed"


def difference(there: Mapping[str, Plain], here: Mapping[str, Plain]) -> dict[str, tuple[Plain, Plain]]:
    """Return the fields that differ, as name to (there, here)."""
    return {
        name: (there.get(name), here.get(name)) for name in sorted({*there, *here}) if there.get(name) != here.get(name)
    }
