"""The files on a branch of a git remote, read and written without a checkout."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from pytest_gpuperf.clock import time
from pytest_gpuperf.errors import OptionError, StoreError, UnreadableRecord
from pytest_gpuperf.store.git import Git, GitFailed, checkout_of, separate_repository
from pytest_gpuperf.store.layout import LARGEST_BYTES
from pytest_gpuperf.store.provenance import user

#: Marks a branch as a store, so that records are never mixed with code.
MARKER = ".gpuperf-store"
_MARKER_TEXT = b"Records of pytest-gpuperf. Written by `gpuperf baseline push`, read by `gpuperf baseline pull`.\n"
#: Files read from git at once, so that a large store is not in memory twice.
_AT_ONCE = 200
#: Paths of the files that a store writes. Git allows others, which would act as commands in the input of fast-import.
PATH = re.compile(r"([A-Za-z0-9][A-Za-z0-9._+-]{0,254}/){1,4}[A-Za-z0-9][A-Za-z0-9._+-]{0,254}")
FOREIGN = "is not a file that a store writes"
_REMEDY = "Delete it from the branch."
#: Messages of a server about another push at the same moment; the branch need not have moved yet.
_LOCKED = re.compile(r"cannot lock ref|failed to update ref|incorrect old value|reference already exists|fetch first")


class Branch:
    """A remote's branch as it was when it was last fetched. Made by ``open_branch``.

    Attributes:
        remote: Name or URL of the remote, without secrets.
        tip: Newest commit; None if the branch does not exist.
        files: Git's digest of each file's content, by path.
        foreign: Errors of files that no store writes.
    """

    where = "from the branch"

    def __init__(self, git: Git, remote: str, name: str, home: Git) -> None:
        self._git, self._remote, self.name, self._home = git, remote, name, home
        self.remote = git.without_secrets(remote)
        self._pushes = 0
        self.fetch()

    def fetch(self) -> None:
        """Fetch the branch.

        Raises:
            StoreError: The remote can't be reached, or the branch is not a store.
        """
        self.tip: str | None = None
        self.files: dict[str, str] = {}
        self.foreign: list[UnreadableRecord] = []
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
        for line in filter(None, listed.split("\0")):
            attributes, _, path = line.partition("\t")
            mode, kind, digest, size = attributes.split()
            if path == MARKER:
                marked = True
            elif not path.endswith((".json", ".prior")) or path.startswith("."):
                continue  # for example a README
            elif kind != "blob" or mode == "120000" or not PATH.fullmatch(path):
                self.foreign.append(UnreadableRecord(self.describe(path), FOREIGN, _REMEDY))
            elif int(size) > LARGEST_BYTES:
                why = f"has {size} bytes, more than any record"
                self.foreign.append(UnreadableRecord(self.describe(path), why, _REMEDY))
            else:
                self.files[path] = digest
        if not marked:
            raise StoreError(
                f"The branch {self.name} of {self.remote} is not a store: it has no {MARKER}.\n"
                "Name another with --branch; a push creates a branch that does not exist."
            )

    def blob(self, content: bytes) -> str:
        """Return git's digest of a content."""
        return hashlib.new(self._git.object_format, b"blob %d\0" % len(content) + content).hexdigest()

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """Return the contents of files.

        Raises:
            StoreError: Git can't read them.
        """
        contents: dict[str, bytes] = {}
        remaining = iter(paths)
        while batch := list(islice(remaining, _AT_ONCE)):
            digests = "".join(f"{self.files[path]}\n" for path in batch)
            answer = memoryview(self._git.raw("cat-file", "--batch", content=digests.encode()))
            for path in batch:
                head, _, _ = bytes(answer[:200]).partition(b"\n")
                size = int(head.split()[-1])
                contents[path] = bytes(answer[len(head) + 1 : len(head) + 1 + size])
                answer = answer[len(head) + size + 2 :]
        return contents

    def describe(self, path: str) -> str:
        """Return the name of a file for messages."""
        return f"{self.name}:{path}"

    def push(self, written: Mapping[str, bytes], deleted: Iterable[str], message: str) -> bool:
        """Push a commit on top of the fetched one; return False if another push came first.

        Raises:
            StoreError: The remote refuses, or can't be reached.
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
        """Return a commit as input of ``git fast-import``, which needs no index and no working tree."""
        parts = [
            f"commit {ref}\ncommitter {self._committer()} {int(time.time())} +0000\n".encode(),
            _data(message.encode()),
        ]
        if self.tip:
            parts.append(f"from {self.tip}\n".encode())
        else:
            parts += [f"M 100644 inline {MARKER}\n".encode(), _data(_MARKER_TEXT)]
        parts += [f"D {path}\n".encode() for path in deleted]
        for path, content in written.items():
            parts += [f"M 100644 inline {path}\n".encode(), _data(content)]
        return b"".join((*parts, b"done\n"))

    def _committer(self) -> str:
        """Return the user that git is configured with; without one, as on most runners, who started the job."""
        try:
            name, email = (self._home("config", setting).strip() for setting in ("user.name", "user.email"))
        except GitFailed:
            name = email = ""
        if not (name and email):
            name, email = user(), "gpuperf@localhost"
        return f"{_plain(name)} <{_plain(email)}>"


def _plain(text: str) -> str:
    return "".join(" " if letter in "<>\n\0" else letter for letter in text).strip()


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)


@contextmanager
def open_branch(directory: Path, name: str, remote: str) -> Iterator[Branch]:
    """Fetch a branch of a remote, with the arguments and errors of ``git_branch.pull``."""
    checkout = checkout_of(directory)
    home = Git(checkout)
    try:
        home("check-ref-format", "--branch", name)
    except GitFailed as error:
        raise OptionError(f"--branch {name}: git does not allow this name. Choose another.") from error
    if not remote or remote.startswith("-"):
        raise OptionError(f"--remote {remote}: write the name of a remote, or a URL.")
    with separate_repository(checkout, remote) as (git, reachable):
        yield Branch(git, reachable, name, home)
