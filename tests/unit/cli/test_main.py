from __future__ import annotations

import pytest

from pytest_gpuperf.cli.main import main


@pytest.mark.parametrize(
    ("line", "usage", "advice"),
    [
        ("sweep -m flower --concurency-range 1:4", "gpuperf sweep ", "--concurrency-range"),
        ("compare --stor .gpuperf-x --tset x", "gpuperf compare ", "--test"),
        ("baseline accept 1a --reason ok --autor=me", "gpuperf baseline accept ", "--author"),
        ("sweep -m flower surplus", "gpuperf sweep ", ""),
    ],
)
def test_a_mistyped_option_shows_the_usage_of_its_command(
    line: str, usage: str, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as status:
        main(line.split())
    message = capsys.readouterr().err
    assert status.value.code == 2
    assert message.startswith(f"usage: {usage}")
    assert ("did you mean" in message) == bool(advice)
    assert advice in message.splitlines()[-1]
