"""Files that are there whole or not at all."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A place beside ``path`` for its new content, which replaces the old one when all went well.

    Whoever reads meanwhile finds the old content; whoever writes meanwhile has a place of their own.

    Raises:
        OSError: it can't be replaced.
    """
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
