"""pytest's configuration files, read without pytest, so that the commands find the store that pytest uses."""

from __future__ import annotations

import configparser
import re
import sys
from pathlib import Path
from typing import Any

from pytest_gpuperf.errors import OptionError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Names in pytest's order; each with the section that makes the file pytest's, empty where the name alone does.
_FILES = {
    "pytest.toml": "",
    ".pytest.toml": "",
    "pytest.ini": "",
    ".pytest.ini": "",
    "pyproject.toml": r"^\s*\[tool\.pytest\b",
    "tox.ini": r"^\[pytest\]",
    "setup.cfg": r"^\[tool:pytest\]",
}
_INI_SECTIONS = ("pytest", "tool:pytest")
_TOML_SECTIONS = (("pytest",), ("tool", "pytest", "ini_options"), ("tool", "pytest"))


def configuration_above(directory: Path) -> Path | None:
    """Return the configuration file of a pytest that is started in a directory without arguments; None if none exists.

    A ``pyproject.toml`` without a section for pytest counts if there is no other file.
    """
    bare = None
    for folder in (directory, *directory.parents):
        for name, section in _FILES.items():
            path = folder / name
            if not path.is_file():
                continue
            if not section or re.search(section, path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE):
                return path
            if name == "pyproject.toml" and bare is None:
                bare = path
    return bare


def configured(path: Path, key: str) -> str:
    """Return the value of a key in a configuration file; empty if it has none.

    Raises:
        OptionError: The file can't be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            return _toml_value(tomllib.loads(text), key)
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.read_string(text)
        values = (parser[section].get(key, "") for section in _INI_SECTIONS if parser.has_section(section))
        return next(filter(None, values), "").strip()
    except (OSError, ValueError, configparser.Error) as error:
        raise OptionError(f"{path}, in which {key} may stand, can't be read: {error}") from error


def _toml_value(document: dict[str, Any], key: str) -> str:
    for names in _TOML_SECTIONS:
        section: Any = document
        for name in names:
            section = section.get(name, {}) if isinstance(section, dict) else {}
        if isinstance(section, dict) and section.get(key):
            return str(section[key]).strip()
    return ""
