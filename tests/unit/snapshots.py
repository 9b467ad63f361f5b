"""Whole texts held against files: what a reader sees, reviewed as a diff.

``GPUPERF_UPDATE_SNAPSHOTS=1 pytest tests/unit`` writes them anew.
"""

from __future__ import annotations

import os
from pathlib import Path

_DIRECTORY = Path(__file__).parent.parent / "snapshots"


def matches(name: str, text: str) -> bool:
    """Whether a text is as its file has it; pytest's own diff shows where it isn't."""
    path = _DIRECTORY / name
    if os.environ.get("GPUPERF_UPDATE_SNAPSHOTS"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"write it anew with GPUPERF_UPDATE_SNAPSHOTS=1: {path}"
    return True
