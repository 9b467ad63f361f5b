"""Git, as a program that is run beside a repository without touching it."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pytest_gpuperf.errors import StoreError

#: Set inside hooks of git; they would make it work on another repository than that of the directory.
MISLEADING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR")
#: Settings of the user's repository that decide how a remote is reached, and as whom. What is set for the user or the
#: machine holds anyway.
_REACHING = re.compile(r"(http|https|credential|url|ssh)\..*|core\.(sshcommand|gitproxy|askpass)")
_OF_REMOTE = ("url", "pushurl", "proxy", "proxyauthmethod", "vcs", "uploadpack", "receivepack")
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
#: A fetch or push of a store over a slow line ends before that; what hangs ends, too.
_TIMEOUT_S = 900.0


class GitFailed(StoreError):
    """A command of git failed; its words are in the message, without secrets.

    Args:
        output: what it wrote to both of its outputs.
    """

    def __init__(self, command: str, status: int, output: str) -> None:
        super().__init__(f"git {command} failed: {output.strip() or f'exit status {status}'}")
        self.status = status
        self.output = output


class Git:
    """Runs git in a directory.

    Args:
        directory: where it runs; paths among the remotes are relative to it.
        variables: environment variables beside ours.
        secrets: texts that no message may have.
        object_format: the digest that names objects.
    """

    def __init__(
        self,
        directory: Path,
        variables: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
        object_format: str = "sha1",
    ) -> None:
        self.directory = directory
        self.object_format = object_format
        self._secrets = tuple(sorted(filter(None, secrets), key=len, reverse=True))
        inherited = {name: value for name, value in os.environ.items() if name not in MISLEADING}
        # Nobody is there to type a password, and messages are told apart by their English words.
        self._environment = {**inherited, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **(variables or {})}

    def __call__(self, *arguments: str, content: bytes | None = None) -> str:
        """Run a command; what it printed.

        Raises:
            GitFailed: it failed.
            StoreError: git can't be run.
        """
        return self.raw(*arguments, content=content).decode(errors="replace")

    def raw(self, *arguments: str, content: bytes | None = None) -> bytes:
        """The same, as bytes.

        Raises:
            GitFailed: it failed.
            StoreError: git can't be run.
        """
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=self.directory,
                env=self._environment,
                input=b"" if content is None else content,
                capture_output=True,
                check=False,
                timeout=_TIMEOUT_S,
            )
        except OSError as error:
            raise StoreError(f"git can't be run: {error}") from error
        except subprocess.TimeoutExpired as error:
            raise StoreError(f"git {arguments[0]} did not end within {_TIMEOUT_S:.0f} s.") from error
        if done.returncode:
            said = (done.stderr + done.stdout).decode(errors="replace")
            raise GitFailed(arguments[0], done.returncode, self.without_secrets(said))
        return done.stdout

    def without_secrets(self, text: str) -> str:
        """A text as it may be shown."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return _USERINFO.sub("***@", text)


def checkout_of(directory: Path) -> Path:
    """The checkout that a directory is in.

    Raises:
        StoreError: it is in none.
    """
    try:
        return Path(Git(directory)("rev-parse", "--show-toplevel").rstrip("\n"))
    except GitFailed as error:
        raise StoreError(
            f"{directory} is not inside a git repository, so it has no remote to keep a store in.\n{error}"
        ) from error


@contextmanager
def beside(checkout: Path, remote: str) -> Iterator[Git]:
    """An empty bare repository that reaches a remote as the checkout does, and is gone afterwards.

    Fetching into the user's own repository would change it: its shallow boundary, ``FETCH_HEAD``, its objects. The
    settings travel as environment variables, so that no token is ever written to a file or a command line.

    Args:
        remote: a remote's name, or a URL.

    Raises:
        StoreError: git can't be run.
    """
    home = Git(checkout)
    settings = _settings(home, remote)
    secrets = {value.rpartition(" ")[2] for key, value in settings if key.lower().endswith(".extraheader")}
    for url in (remote, *(value for _, value in settings), *(key for key, _ in settings)):
        secrets |= {found.rstrip("@") for found in _USERINFO.findall(url)}
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings):
        variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    with tempfile.TemporaryDirectory(prefix="gpuperf-git-", ignore_cleanup_errors=True) as directory:
        kind = home("rev-parse", "--show-object-format").strip()
        home("init", "--quiet", "--bare", "--template=", f"--object-format={kind}", directory)
        yield Git(checkout, {**variables, "GIT_DIR": directory}, secrets, kind)


def _settings(home: Git, remote: str) -> list[tuple[str, str]]:
    """The settings that a repository and the environment have on how to reach a remote."""
    listed = home("config", "--local", "--includes", "--list", "--null")
    found = []
    for entry in filter(None, listed.split("\0")):
        key, given, value = entry.partition("\n")
        section, _, name = key.rpartition(".")
        if _REACHING.fullmatch(key) or (section == f"remote.{remote}" and name in _OF_REMOTE):
            found.append((key, value if given else "true"))
    # Those of the environment come last, as they do for git: they override, and an empty one begins a list anew.
    count = os.environ.get("GIT_CONFIG_COUNT", "")
    for number in range(int(count) if count.isdecimal() else 0):
        key = os.environ.get(f"GIT_CONFIG_KEY_{number}", "")
        found.append((key, os.environ.get(f"GIT_CONFIG_VALUE_{number}", "")))
    return found
