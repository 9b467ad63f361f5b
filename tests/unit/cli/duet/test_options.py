"""The options of ``gpuperf duet``."""

from __future__ import annotations

import pytest

from pytest_gpuperf.cli.main import main


@pytest.mark.parametrize("blocks", ["1", "0", "many"])
def test_a_single_block_is_refused_before_anything_starts(blocks: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["duet", "--base", "main", "--blocks", blocks])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert "--blocks" in error
    assert ("one block shows no spread; write 2 or more" in error) == (blocks == "1")
