"""A client that records its calls and reaches no server."""

from __future__ import annotations

from pytest_gpuperf.errors import TargetError
from pytest_gpuperf.targets.kserve.client import KServeClient


class Recorder(KServeClient):
    """Accepts every call except those whose name begins with ``refuses``."""

    def __init__(self, refuses: str = "", error: type[TargetError] = TargetError) -> None:
        super().__init__("server:8000")
        self.calls: list[tuple[object, ...]] = []
        self._refuses, self._error = refuses, error

    def close(self) -> None:
        """Nothing was opened."""

    def ready(self) -> bool:
        return True

    def _call(self, method: str, *arguments: object) -> None:
        self.calls.append((method, *arguments))
        if method.startswith(self._refuses or "never"):
            raise self._error("refused")
