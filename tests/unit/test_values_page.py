"""docs/values.md shows what its examples print."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "values.md"
BLOCKS = re.findall(r"^```(\w+)\n((?:.*\n)*?)```$", PAGE.read_text(), re.MULTILINE)


def test_every_example_shows_what_it_prints() -> None:
    assert len(BLOCKS) >= 8
    assert [language for language, _ in BLOCKS] == ["python", "text"] * (len(BLOCKS) // 2)


def test_what_the_page_shows() -> None:
    """As one program, since its parts build on each other."""
    program = "".join(text for language, text in BLOCKS if language == "python")
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.stderr == ""
    assert found.stdout == "".join(text for language, text in BLOCKS if language == "text")
