from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from pytest_gpuperf.cli.duet.installation import kept_place
from pytest_gpuperf.errors import OptionError


def test_a_kept_environment_belongs_to_a_commit_and_a_command(tmp_path: Path) -> None:
    with ExitStack() as stack:
        place = kept_place(tmp_path, "1" * 40, "pip install .", stack)
        others = [kept_place(tmp_path, "2" * 40, "pip install .", stack)]
        others += [kept_place(tmp_path, "1" * 40, "pip install -e .", stack)]
        assert place not in others
        with pytest.raises(OptionError, match="Another gpuperf duet uses the environment"):
            kept_place(tmp_path, "1" * 40, "pip install .", stack)
    with ExitStack() as stack:
        assert kept_place(tmp_path, "1" * 40, "pip install .", stack) == place


def test_the_environments_that_were_used_longest_ago_are_deleted_unless_they_are_in_use(tmp_path: Path) -> None:
    with ExitStack() as stack:
        places = []
        for number in range(7):
            with ExitStack() as ended:
                place = kept_place(tmp_path, str(number), "pip install .", stack if number == 1 else ended)
            (place / "complete").touch()
            os.utime(place / "complete", (number, number))
            places.append(place)
        assert [number for number, place in enumerate(places) if place.exists()] == [1, 3, 4, 5, 6]


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with ExitStack() as stack, pytest.raises(OptionError, match=r"--environments .*/file: environments can't be kept"):
        kept_place(tmp_path / "file", "1" * 40, "pip install .", stack)
