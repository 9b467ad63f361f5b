"""No secret and no command for a terminal or a CI system leaves the package, whichever way out it takes."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pytest_gpuperf
from pytest_gpuperf.cli.main import _COMMANDS, main
from pytest_gpuperf.errors import GpuperfError, UnreadableRecord
from pytest_gpuperf.publish.formats import FORMATS, render
from pytest_gpuperf.safe_text import SafeStream, lines_text, redacted, safe
from pytest_gpuperf.store import Store
from tests.unit.factories import KEY, record
from tests.unit.reports import reported

SECRET = "hunter2SECRET"
ESCAPES = "\x1b]52;c;ZWNobyBwd25lZA==\x07\x1b[2J\r\x9b8m\u202e"
COMMANDS = "\n::error file=a.py::forged\n  ::stop-commands::x\n##vso[task.complete]##[add-matcher]##teamcity[x]"
HOSTILE = f"name{ESCAPES}{COMMANDS}"


def dangers(text: str) -> list[str]:
    """Return what a terminal or a CI system would execute."""
    return re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]|^\s*::\w.*|##\[|##vso\[|##teamcity\[", text, re.MULTILINE)


@pytest.mark.parametrize(
    "text",
    [
        f"ftp://ci:{SECRET}@host:21/store",
        f"https://{SECRET}@host/x.git",
        f"http://ci:p@{SECRET}@host/x.git",
        f"simplecache::s3://key:{SECRET}@bucket/x",
        f"http://host/x.git?private_token={SECRET}&depth=1",
        f"https://b.s3.amazonaws.com/x?X-Amz-Security-Token={SECRET}&X-Amz-Signature={SECRET}",
        f"https://b.blob.core.windows.net/x?sv=2024&sig={SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"{{'authorization': 'Basic {SECRET}'}}",
        f"http.extraheader=AUTHORIZATION: basic {SECRET}",
        f"FTPFileSystem(host='h', password='{SECRET}')",
        f"{{'secret': 'two words {SECRET}'}}",
        f"AWS_SECRET_ACCESS_KEY={SECRET}",
    ],
)
def test_secrets_are_masked(text: str) -> None:
    assert SECRET not in redacted(text)
    assert "***" in redacted(text)
    assert redacted(redacted(text)) == redacted(text)
    assert json.loads(redacted(json.dumps({"text": text, "after": 1})))["after"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/perf",
        "/home/a@b/perf",
        "git@github.com:team/project.git",
        "http://host:8000/v2/models/m?timeout=5",
        '{"first_token_ms": 5, "key": {"device": "NVIDIA L4"}}',
        "tests/test_a.py::test_b[key=1]",
        "max_tokens=16 token=5",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert safe(text) == text


@given(st.text() | st.text("\n\t:# \\[ab@/?=&\x1b\r"))
def test_safe_text_has_no_dangers_and_stays_safe(text: str) -> None:
    assert not dangers(safe(text))
    assert safe(safe(text)) == safe(text)


@given(st.lists(st.text() | st.text("\n\t:# \\["), max_size=6))
def test_a_stream_keeps_dangers_out_however_text_is_cut(parts: list[str]) -> None:
    stream = StringIO()
    shown = SafeStream(stream)
    for part in parts:
        print(part, file=shown)
    assert not dangers(stream.getvalue())


def test_a_command_in_two_writes_is_not_a_command() -> None:
    stream = StringIO()
    shown = SafeStream(stream)
    for part in ("  ", "::error::x", "\n", ":", ":error::y\n", "#", "#[group]\n"):
        shown.write(part)
    assert not dangers(stream.getvalue())


def test_a_stream_writes_escapes_for_what_its_encoding_lacks() -> None:
    stream = TextIOWrapper(BytesIO(), encoding="latin-1", newline="")
    print("µs → ✓", file=SafeStream(stream), flush=True)
    stream.seek(0)
    assert stream.read() == "µs \\u2192 \\u2713\n"


def test_a_line_stays_one_line() -> None:
    assert lines_text(["a\nb", "c"]) == "a\\nb\nc"


# Ways out: errors, commands, reports, pytest's terminal (tests/e2e/test_ways_out.py)


def _errors(base: type[GpuperfError] = GpuperfError) -> Iterator[type[GpuperfError]]:
    yield base
    for error in base.__subclasses__():
        yield from _errors(error)


@pytest.mark.parametrize("error", list(_errors()), ids=lambda error: error.__name__)
def test_every_error_is_safe(error: type[GpuperfError]) -> None:
    arguments = error.__init__.__code__.co_argcount - 1
    defaults = len(error.__init__.__defaults__ or ())
    message = str(error(*[f"{HOSTILE} ftp://ci:{SECRET}@host/"] * max(arguments - defaults, 1)))
    assert not dangers(message)
    assert SECRET not in message


@pytest.fixture
def hostile_store(tmp_path: Path) -> str:
    store = Store(f"local://{tmp_path}/store")
    for minute in range(2):
        store.write(
            record(
                minute=minute,
                name=f"0a1b2c3d4e5{minute}",
                key={**KEY, "test": f"t.py::x{HOSTILE}", "device": f"NVIDIA L4{HOSTILE}"},
                environment={"host": HOSTILE, "remote": f"https://ci:{SECRET}@host/x.git"},
                under_test={"serving": {f"model{HOSTILE}": HOSTILE}},
                settings={"note": HOSTILE},
            )
        )
    return store.url


#: A command line for every command; those of None measure or install, and print no stored text.
_LINES: dict[str, list[list[str]] | None] = {
    "triton": None,
    "sweep": None,
    "duet": None,
    "baseline": [
        ["baseline", "list"],
        ["baseline", "show", "0a1b2c3d4e50"],
        ["baseline", "show", "::error"],
        ["baseline", "accept", "0a1b2c3d4e50", "--reason", HOSTILE],
        ["baseline", "pin", "0a1b2c3d4e50", "--reason", HOSTILE],
        ["baseline", "unpin", "0a1b2c3d4e50"],
        ["baseline", "prune", "--keep", "1"],
    ],
    "compare": [["compare", "--all"], ["compare", "--across", "gpu"], ["compare", "--format", "json"]],
    "history": [["history"]],
    "report": [["report", "--format", name] for name in FORMATS],
    "import": [["import", f"{HOSTILE}.json"]],
    "calibrate": None,
    "comment": [["comment", f"{HOSTILE}.md"]],
    "cost": [["cost"]],
    "doctor": None,
}


def test_every_command_is_listed() -> None:
    assert set(_LINES) == set(_COMMANDS)


@pytest.mark.parametrize(
    "line", [line for lines in _LINES.values() for line in lines or []], ids=lambda line: "-".join(line)[:30]
)
def test_commands_print_nothing_dangerous(
    line: list[str], hostile_store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with suppress(SystemExit):  # a name that argparse refuses, and prints
        main([*line, *([] if line[0] == "comment" else ["--store", hostile_store])])
    output = "".join(capsys.readouterr())
    assert output
    assert not dangers(output)
    assert SECRET not in output


@pytest.mark.parametrize("name", FORMATS)
def test_reports_contain_no_secret(name: str) -> None:
    url = f"ftp://ci:{SECRET}@host/x?private_token={SECRET}"
    test = reported(
        error=f"can't reach {url}",
        environment={"remote": url},
        under_test={"serving": {"url": url}},
        store_option=f" --store '{url}'",
        findings=(),
    )
    text = render(name, [test], title=url, generated_utc="2026-01-01T00:00:00+00:00")
    assert SECRET not in text
    if name in ("json", "benchmark"):
        json.loads(text)


def test_only_the_command_prints() -> None:
    """A module outside ``cli/`` that writes to the terminal is a way out that this file does not know."""
    package = Path(pytest_gpuperf.__file__).parent
    writers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "python_backend" not in path.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id == "print")
            or (isinstance(node.func, ast.Attribute) and node.func.attr in ("write_line", "write_sep"))
            or ast.unparse(node.func) in ("sys.stdout.write", "sys.stderr.write")
        )
    }
    outside = {writer for writer in writers if not writer.startswith("cli/")}
    assert outside == {"device/clock_keeper.py", "session/console.py", "session/results.py"}


def test_an_unreadable_record_names_its_place_without_secrets() -> None:
    error = UnreadableRecord(f"ftp://ci:{SECRET}@host/r.json", f"why{ESCAPES}", "remedy")
    assert SECRET not in str(error)
    assert "ftp://***@host/r.json" in str(error)
