"""Complete texts compared with files, so that a change is reviewed as a diff.

``GPUPERF_UPDATE_SNAPSHOTS=1 pytest tests/unit`` rewrites the files.
"""

from __future__ import annotations

import os
from pathlib import Path

_DIRECTORY = Path(__file__).parent.parent / "snapshots"


def matches(name: str, text: str) -> bool:
    """Compare a text with its file; pytest shows the difference."""
    path = _DIRECTORY / name
    if os.environ.get("GPUPERF_UPDATE_SNAPSHOTS"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"rewrite it with GPUPERF_UPDATE_SNAPSHOTS=1: {path}"
    return True
