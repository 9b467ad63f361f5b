"""The files on a branch of a git remote, fetched and pushed without a checkout."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from pytest_gpuperf.errors import OptionError, StoreError, UnreadableRecord
from pytest_gpuperf.store.git import Git, GitFailed, beside, checkout_of
from pytest_gpuperf.store.store import user

#: Says that a branch is a store, so that nobody's code is taken for one, and mixed with records.
MARKER = ".gpuperf-store"
_MARKED = b"Records of pytest-gpuperf. Written by `gpuperf baseline push`, read by `gpuperf baseline pull`.\n"
#: A record of a hundred load points and eight runs is below 10 MB; what is far above is none.
_LARGEST_BYTES = 256 << 20
#: Files that git is asked for at once, so that a large store doesn't lie in memory twice.
_AT_ONCE = 200
#: Of the files that a store writes. Git takes others; they would be commands where a commit is written.
PATH = re.compile(r"([A-Za-z0-9][A-Za-z0-9._+-]{0,254}/){1,4}[A-Za-z0-9][A-Za-z0-9._+-]{0,254}")
STRANGE = "is no file that a store writes"
_REMEDY = "Delete it from the branch."
#: What another push at the same moment makes a server say; the branch need not have moved yet.
_LOCKED = re.compile(r"cannot lock ref|failed to update ref|incorrect old value|reference already exists|fetch first")


class Branch:
    """A remote's branch as it was when it was fetched. Made by ``opened``.

    Attributes:
        remote: as it may be shown.
        tip: its newest commit; None where there is no branch.
        files: the object of each file's content, by path.
        strange: files that no store writes.
    """

    where = "from the branch"

    def __init__(self, git: Git, remote: str, name: str, home: Git) -> None:
        self._git, self._remote, self.name, self._home = git, remote, name, home
        self.remote = git.without_secrets(remote)
        self._pushes = 0
        self.fetch()

    def fetch(self) -> None:
        """See what others have pushed.

        Raises:
            StoreError: the remote can't be reached, or the branch is no store.
        """
        self.tip: str | None = None
        self.files: dict[str, str] = {}
        self.strange: list[UnreadableRecord] = []
        ref = f"refs/heads/{self.name}"
        try:
            if not self._git("ls-remote", self._remote, ref).strip():
                return
            self._git("fetch", "--quiet", "--no-tags", "--depth=1", self._remote, f"+{ref}:refs/gpuperf/tip")
        except GitFailed as error:
            raise StoreError(
                f"The branch {self.name} of {self.remote} can't be fetched.\n{error}\n"
                "Is it the right remote (--remote), and may this machine read it?"
            ) from error
        self.tip = self._git("rev-parse", "refs/gpuperf/tip").strip()
        self._list()

    def _list(self) -> None:
        listed = self._git("ls-tree", "-r", "-l", "-z", "--full-tree", str(self.tip))
        marked = False
        for entry in filter(None, listed.split("\0")):
            facts, _, path = entry.partition("\t")
            mode, kind, digest, size = facts.split()
            if path == MARKER:
                marked = True
            elif not path.endswith((".json", ".prior")) or path.startswith("."):
                continue  # a README that somebody put there
            elif kind != "blob" or mode == "120000" or not PATH.fullmatch(path):
                self.strange.append(UnreadableRecord(self.describe(path), STRANGE, _REMEDY))
            elif int(size) > _LARGEST_BYTES:
                why = f"has {size} bytes, which no record has"
                self.strange.append(UnreadableRecord(self.describe(path), why, _REMEDY))
            else:
                self.files[path] = digest
        if not marked:
            raise StoreError(
                f"The branch {self.name} of {self.remote} is no store: it has no {MARKER}.\n"
                "Name another with --branch; a push begins one that isn't there."
            )

    def blob(self, content: bytes) -> str:
        """What git calls a content."""
        return hashlib.new(self._git.object_format, b"blob %d\0" % len(content) + content).hexdigest()

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The contents of files.

        Raises:
            StoreError: git can't read them.
        """
        found: dict[str, bytes] = {}
        left = iter(paths)
        while batch := list(islice(left, _AT_ONCE)):
            asked = "".join(f"{self.files[path]}\n" for path in batch)
            answer = memoryview(self._git.raw("cat-file", "--batch", content=asked.encode()))
            for path in batch:
                head, _, _ = bytes(answer[:200]).partition(b"\n")
                size = int(head.split()[-1])
                found[path] = bytes(answer[len(head) + 1 : len(head) + 1 + size])
                answer = answer[len(head) + size + 2 :]
        return found

    def describe(self, path: str) -> str:
        """A file as errors call it."""
        return f"{self.name}:{path}"

    def push(self, written: Mapping[str, bytes], deleted: Iterable[str], message: str) -> bool:
        """Put a commit on top of what was fetched; False when somebody else was faster.

        Raises:
            StoreError: the remote refuses, or can't be reached.
        """
        before, self._pushes = self.tip, self._pushes + 1
        ref = f"refs/gpuperf/next-{self._pushes}"
        self._git.raw("fast-import", "--quiet", "--done", content=self._commit(ref, written, deleted, message))
        try:
            self._git("push", "--quiet", "--porcelain", self._remote, f"{ref}:refs/heads/{self.name}")
        except GitFailed as error:
            self.fetch()
            if self.tip != before or _LOCKED.search(error.output):
                return False
            raise StoreError(
                f"The branch {self.name} of {self.remote} can't be pushed.\n{error}\n"
                "May this machine write it (on GitHub: permissions: contents: write), and is it not protected?"
            ) from error
        return True

    def _commit(self, ref: str, written: Mapping[str, bytes], deleted: Iterable[str], message: str) -> bytes:
        """A commit as ``git fast-import`` reads it: it needs no index and no working tree."""
        parts = [
            f"commit {ref}\ncommitter {self._committer()} {int(time.time())} +0000\n".encode(),
            _data(message.encode()),
        ]
        if self.tip:
            parts.append(f"from {self.tip}\n".encode())
        else:
            parts += [f"M 100644 inline {MARKER}\n".encode(), _data(_MARKED)]
        parts += [f"D {path}\n".encode() for path in deleted]
        for path, content in written.items():
            parts += [f"M 100644 inline {path}\n".encode(), _data(content)]
        return b"".join((*parts, b"done\n"))

    def _committer(self) -> str:
        """As git is configured; on a runner, where it rarely is, whoever started the job."""
        found = []
        for setting in ("user.name", "user.email"):
            try:
                found.append(self._home("config", setting).strip())
            except GitFailed:
                found.append("")
        name, email = found if all(found) else (user(), "gpuperf@localhost")
        return f"{_plain(name)} <{_plain(email)}>"


def _plain(text: str) -> str:
    return "".join(" " if letter in "<>\n\0" else letter for letter in text).strip()


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)


@contextmanager
def opened(directory: Path, name: str, remote: str) -> Iterator[Branch]:
    """A branch of a remote, fetched.

    Args:
        directory: inside the checkout whose remote it is.
        remote: its name, or a URL.

    Raises:
        StoreError: the remote can't be reached, or the branch is no store.
        OptionError: nothing can be called so.
    """
    checkout = checkout_of(directory)
    home = Git(checkout)
    try:
        home("check-ref-format", "--branch", name)
    except GitFailed as error:
        raise OptionError(f"--branch {name}: no branch can be called so.") from error
    if not remote or remote.startswith("-"):
        raise OptionError(f"--remote {remote}: write the name of a remote, or a URL.")
    with beside(checkout, remote) as git:
        yield Branch(git, remote, name, home)
