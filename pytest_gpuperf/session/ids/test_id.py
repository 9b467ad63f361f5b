"""Ids of tests in records: the same wherever pytest is started, and different for two packages of one repository."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.store.project.location import checkout_top


@dataclass(frozen=True)
class IdScheme:
    """How tests are named in records.

    Attributes:
        root_path: pytest's root directory, to which pytest's own ids are relative.
        base_path: Directory to which the ids of records are relative: the top of the git checkout, or outside of git
            pytest's root directory.
    """

    root_path: Path
    base_path: Path

    @classmethod
    def of(cls, root_path: Path, unmoved_path: Path) -> IdScheme:
        """Return the scheme of a pytest.

        Args:
            unmoved_path: The root directory without the values of our options.
        """
        return cls(root_path.resolve(), checkout_top(unmoved_path) or unmoved_path.resolve())

    def node_id(self, item: pytest.Item) -> str:
        """Return pytest's id of a test, relative to ``base_path``."""
        path, separator, name = _plain_id(item).partition("::")
        if self.root_path != self.base_path:
            path = Path(os.path.relpath(self.root_path / path, self.base_path)).as_posix()
        return f"{path}{separator}{name}"

    def test_id(self, item: pytest.Item) -> str:
        """Return the id of a test in records: the name in its marker, with its parameters, else ``node_id``."""
        name = stated_name(item)
        if not name:
            return self.node_id(item)
        parameters = getattr(getattr(item, "callspec", None), "id", "")
        return f"{name}[{parameters}]" if parameters else name


class StatedNames:
    """The names that the markers of collected tests state; two tests of one name would share a baseline."""

    def __init__(self, ids: IdScheme) -> None:
        self._ids = ids
        self._node_ids: dict[str, dict[str, None]] = {}

    def add(self, item: pytest.Item) -> None:
        if stated_name(item):
            self._node_ids.setdefault(self._ids.test_id(item), {})[self._ids.node_id(item)] = None

    def test_id(self, item: pytest.Item) -> str:
        """Return the id of a test.

        Raises:
            OptionError: Another test has the same name.
        """
        test = self._ids.test_id(item)
        node_ids = list(self._node_ids.get(test, ()))
        if len(node_ids) > 1:
            listed = "\n".join(f"  {node_id}" for node_id in node_ids)
            raise OptionError(
                f"{len(node_ids)} tests are named {test!r} by their markers:\n{listed}\nGive each its own name."
            )
        return test


def stated_name(item: pytest.Item) -> str:
    """Return the name that the closest ``gpuperf`` marker states; empty without a valid name."""
    names = (mark.kwargs["name"] for mark in item.iter_markers("gpuperf") if mark.kwargs.get("name") is not None)
    name = next(names, "")
    return name.strip() if isinstance(name, str) else ""


def file_of(test: str) -> str:
    """Return the path of a test's file, from the id of the test."""
    return test.partition("::")[0]


def _plain_id(item: pytest.Item) -> str:
    """Return pytest's id of a test, without the group that pytest-xdist appends for ``--dist loadgroup``."""
    plain = f"{item.parent.nodeid}::{item.name}" if item.parent is not None else item.nodeid
    return plain if item.nodeid.startswith(f"{plain}@") else item.nodeid
