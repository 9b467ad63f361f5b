"""The format of a session file.

It is ``{"gpuperf": SCHEMA, "sha256": ..., "session": {...}}``; the digest covers both as canonical JSON.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pytest_gpuperf.errors import StoreError, UnreadableSession
from pytest_gpuperf.model import SCHEMA, Session
from pytest_gpuperf.model.codec import Mismatch, from_builtins, to_builtins
from pytest_gpuperf.store.key import canonical

REMEDY = "Restore the file, or delete it to do without that session."


def document(session: Session) -> dict[str, Any]:
    """What a session's file holds.

    Raises:
        StoreError: it holds a number that JSON has no word for.
    """
    body = to_builtins(session)
    try:
        digest = _digest(SCHEMA, body)
    except ValueError as error:
        raise StoreError(f"Session {session.id} of {session.test} can't be stored: {error}") from error
    return {"gpuperf": SCHEMA, "sha256": digest, "session": body}


def parse(content: bytes, where: str) -> Session:
    """A session file's session.

    Args:
        where: what the file is called in errors.

    Raises:
        UnreadableSession: it is damaged, tampered with, or newer than this version.
    """
    try:
        data = json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise UnreadableSession(
            where, f"is not complete JSON ({error}); was it cut short or edited?", REMEDY
        ) from error
    schema = data.get("gpuperf") if isinstance(data, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise UnreadableSession(where, "is not a gpuperf session", REMEDY)
    if schema > SCHEMA:
        why = f"has schema {schema}; this version of pytest-gpuperf reads up to {SCHEMA}"
        raise UnreadableSession(where, why, "Upgrade with: pip install --upgrade pytest-gpuperf")
    body = data.get("session")
    try:
        digest = _digest(schema, body)
    except ValueError as error:
        raise UnreadableSession(where, f"holds what no session can: {error}", REMEDY) from error
    if data.get("sha256") != digest:
        raise UnreadableSession(where, "does not match its own checksum; it was damaged or edited", REMEDY)
    try:
        return from_builtins(Session, body)
    except Mismatch as error:
        raise UnreadableSession(where, f"is not a valid session: {error}", REMEDY) from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number that a session may hold")


def _digest(schema: int, body: Any) -> str:
    return hashlib.sha256(canonical([schema, body]).encode()).hexdigest()
