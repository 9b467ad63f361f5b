"""Real git remotes in a directory, and clones of them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

#: No settings of whoever runs the tests.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}
_AUTHOR = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")


def git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=directory, env=ENVIRONMENT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def origin_in(place: Path, *init: str) -> Path:
    """A bare repository with two commits of code on main."""
    origin, work = place / "origin.git", place / "work"
    git(place, "init", "--quiet", "--bare", "-b", "main", *init, str(origin))
    git(place, "init", "--quiet", "-b", "main", *init, str(work))
    for number in range(2):
        (work / "code.py").write_text(f"print({number})\n")
        git(work, "add", "code.py")
        git(work, *_AUTHOR, "commit", "--quiet", "-m", f"code {number}")
    git(work, "push", "--quiet", str(origin), "main")
    return origin


def clone_of(origin: Path, place: Path, *options: str) -> Path:
    """A clone without anybody's name in it."""
    git(origin.parent, "clone", "--quiet", *options, origin.as_uri(), str(place))
    return place


def snapshot(directory: Path) -> dict[str, bytes]:
    """All files of a checkout, those of git, too."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and ".gpuperf" not in path.parts
    }
