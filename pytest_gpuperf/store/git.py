"""Runs the git program without changing the user's repository."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from pytest_gpuperf.errors import OptionError, StoreError
from pytest_gpuperf.safe_text import MASK, redacted

#: Variables that git sets for hooks (``git rev-parse --local-env-vars``, without settings); they would make it work on
#: another repository than the directory's.
MISLEADING = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NAMESPACE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
)
#: Settings of the user's repository that decide how to reach a remote, and as whom. Those of the user and the machine
#: apply anyway.
_ACCESS = re.compile(r"(http|https|credential|url|ssh)\..*|core\.(sshcommand|gitproxy|askpass)")
_REMOTE_ACCESS = ("url", "pushurl", "proxy", "proxyauthmethod", "vcs", "uploadpack", "receivepack")
#: Scheme, user information and host of a URL.
_LOGIN = re.compile(r"(https?://)([^/?#\s]*)@([^/?#\s]*)", re.IGNORECASE)
#: A credential helper in the syntax of a shell, which git runs: the password stays out of every command line.
_HELPER = (
    """!f() { test "$1" = get && """
    r"""printf 'username=%s\npassword=%s\n' "$GPUPERF_GIT_USER_N" "$GPUPERF_GIT_PASSWORD_N"; }; f"""
)
#: Longest duration of a command: enough for a store over a slow line.
_TIMEOUT_S = 900.0


class GitFailed(StoreError):
    """A command of git failed; the message has its output, without secrets.

    Args:
        output: Standard error and standard output of the command.
    """

    def __init__(self, command: str, status: int, output: str) -> None:
        super().__init__(f"git {command} failed: {output.strip() or f'exit status {status}'}")
        self.status = status
        self.output = output


class Git:
    """Runs git in a directory.

    Args:
        directory: Working directory; remotes that are paths are relative to it.
        variables: Environment variables in addition to those of this process.
        secrets: Texts that no message may contain.
        object_format: Digest that identifies objects.
        timeout_s: Longest duration of a command.
    """

    def __init__(
        self,
        directory: Path,
        variables: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
        object_format: str = "sha1",
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self.directory = directory
        self._timeout_s = timeout_s
        self.object_format = object_format
        self._secrets = tuple(sorted(filter(None, secrets), key=len, reverse=True))
        inherited = {name: value for name, value in os.environ.items() if name not in MISLEADING}
        # Nobody can type a password, and the messages of the server are matched in English.
        self._environment = {**inherited, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **(variables or {})}

    def __call__(self, *arguments: str, content: bytes | None = None) -> str:
        """Run a command and return its output as text; raises what ``raw`` raises."""
        return self.raw(*arguments, content=content).decode(errors="replace")

    def raw(self, *arguments: str, content: bytes | None = None) -> bytes:
        """Run a command and return its output as bytes.

        Raises:
            GitFailed: The command failed.
            StoreError: Git can't be run.
        """
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=self.directory,
                env=self._environment,
                input=b"" if content is None else content,
                capture_output=True,
                check=False,
                timeout=self._timeout_s,
            )
        except OSError as error:
            raise StoreError(f"git can't be run: {error}") from error
        except subprocess.TimeoutExpired as error:
            raise StoreError(f"git {arguments[0]} did not end within {self._timeout_s:.0f} s.") from error
        if done.returncode:
            output = (done.stderr + done.stdout).decode(errors="replace")
            raise GitFailed(arguments[0], done.returncode, self.without_secrets(output))
        return done.stdout

    def without_secrets(self, text: str) -> str:
        """Return a text with its secrets replaced by asterisks."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return redacted(text)


def checkout_of(directory: Path) -> Path:
    """Return the checkout that contains a directory.

    Raises:
        StoreError: The directory is not inside a git repository.
    """
    try:
        return Path(os.fsdecode(Git(directory).raw("rev-parse", "--show-toplevel").rstrip(b"\n")))
    except GitFailed as error:
        raise StoreError(
            f"{directory} is not inside a git repository, so there is no remote for the store.\n{error}"
        ) from error


@contextmanager
def separate_repository(checkout: Path, remote: str) -> Iterator[tuple[Git, str]]:
    """Create an empty bare repository that reaches a remote as the checkout does, and delete it afterwards.

    Fetching into the user's repository would change its shallow boundary, its ``FETCH_HEAD`` and its objects. Settings
    and passwords are passed as environment variables, so that they are neither written to a file nor to a command line.

    Args:
        remote: Name of the remote, or a URL.

    Yields:
        Git in the repository, and the remote to name to it.

    Raises:
        StoreError: Git can't be run.
    """
    home = Git(checkout)
    logins = _Logins()
    settings = [(logins.removed_from(key), logins.removed_from(value)) for key, value in _settings(home, remote)]
    remote = logins.removed_from(remote)
    _check_no_secret_in_query(remote, settings)
    secrets = {value.rpartition(" ")[2] for key, value in settings if key.lower().endswith(".extraheader")}
    secrets |= logins.secrets
    settings += logins.settings
    variables = {**logins.variables, "GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings):
        variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    with tempfile.TemporaryDirectory(prefix="gpuperf-git-", ignore_cleanup_errors=True) as directory:
        kind = home("rev-parse", "--show-object-format").strip()
        home("init", "--quiet", "--bare", "--template=", f"--object-format={kind}", directory)
        yield Git(checkout, {**variables, "GIT_DIR": directory}, secrets, kind), remote


def _check_no_secret_in_query(remote: str, settings: Iterable[tuple[str, str]]) -> None:
    """Check that a remote can be named to git, which passes its URL to its helpers on their command lines.

    Raises:
        OptionError: Its URL has a token behind the question mark, which no server takes from git.
    """
    urls = [remote, *(value for key, value in settings if key.lower().endswith((".url", ".pushurl")))]
    urls += [key for key, _ in settings if key.lower().startswith("url.")]
    for url in urls:
        if "?" in url and redacted(url) != url:
            raise OptionError(
                f"The remote {url} can't be used: git would show its URL, with the secret behind the question mark, to "
                "every user of this machine. Write the token as the password of the URL, before an @ and the host, "
                "which is passed to git as a credential, or set up a credential helper."
            )


@dataclass
class _Logins:
    """Users and passwords that were part of URLs, as credentials that git asks for.

    Git passes a URL to its helpers on their command lines, which every user of the machine can read.
    """

    settings: list[tuple[str, str]] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)

    def removed_from(self, text: str) -> str:
        """Return a text whose URLs have no user and password any more."""
        return _LOGIN.sub(self._remove, text)

    def _remove(self, match: re.Match[str]) -> str:
        scheme, userinfo, host = match.groups()
        user, _, password = userinfo.partition(":")
        number, key = str(len(self.settings)), f"credential.{scheme}{host}.helper"
        self.settings += [(key, ""), (key, _HELPER.replace("_N", f"_{number}"))]  # the empty one removes the others
        self.variables[f"GPUPERF_GIT_USER_{number}"] = unquote(user)
        self.variables[f"GPUPERF_GIT_PASSWORD_{number}"] = unquote(password)
        self.secrets |= {password, unquote(password)} if password else {user, unquote(user)}
        return f"{scheme}{host}"


def _settings(home: Git, remote: str) -> list[tuple[str, str]]:
    """Return the settings of a repository and of the environment on how to reach a remote."""
    listed = home("config", "--local", "--includes", "--list", "--null")
    settings = []
    for line in filter(None, listed.split("\0")):
        key, has_value, value = line.partition("\n")
        section, _, name = key.rpartition(".")
        if _ACCESS.fullmatch(key) or (section == f"remote.{remote}" and name in _REMOTE_ACCESS):
            settings.append((key, value if has_value else "true"))
    # Settings of the environment come last, as in git: they override, and an empty value clears a list.
    count = os.environ.get("GIT_CONFIG_COUNT", "")
    for number in range(int(count) if count.isdecimal() else 0):
        key = os.environ.get(f"GIT_CONFIG_KEY_{number}", "")
        settings.append((key, os.environ.get(f"GIT_CONFIG_VALUE_{number}", "")))
    return settings
