"""Files that are replaced atomically."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path for the new content of ``path``, and replace ``path`` with it unless an error was raised.

    Readers see the old content until then; concurrent writers have temporary paths of their own.

    Raises:
        OSError: ``path`` can't be replaced.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
