from __future__ import annotations

import pytest

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import PlainMapping
from pytest_gpuperf.session.key_changes import KeyChange, changed_key, parse_key_changes
from tests.unit.factories import KEY

FACTS: PlainMapping = {
    "driver": "570.1",
    "cuda_driver": "12.8",
    "host": "a",
    "gpu_temperature": 61,
    "share": 0.5,
    "sm_mhz": 1400,
}


def test_what_people_write() -> None:
    assert parse_key_changes("") == ()
    assert parse_key_changes("+driver") == (KeyChange("driver", True),)
    assert parse_key_changes("+driver  -power_limit_w,+host") == (
        KeyChange("driver", True),
        KeyChange("power_limit_w", False),
        KeyChange("host", True),
    )


@pytest.mark.parametrize("text", ["driver", "+", "-", "+driver host", "++driver", "+1", "=driver", "+a=b"])
def test_what_can_t_be_meant(text: str) -> None:
    with pytest.raises(ValueError, match=r"write for example \+driver"):
        parse_key_changes(text)


def test_a_field_more_and_one_less() -> None:
    changed = changed_key(KEY, FACTS, parse_key_changes("+driver -power_limit_w"))
    assert changed == {**{name: value for name, value in KEY.items() if name != "power_limit_w"}, "driver": "570.1"}


def test_units_may_be_left_out() -> None:
    assert "power_limit_w" not in changed_key(KEY, FACTS, parse_key_changes("-power_limit"))


def test_adding_what_is_there_changes_nothing() -> None:
    assert changed_key(KEY, FACTS, parse_key_changes("+power_limit_w +device")) == KEY


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("+drivr", r"no field drivr; fields that can be added: cuda_driver, driver, host\."),
        ("-mig", r"mig is not a field of this key; fields that can be removed: power_limit_w\."),
        ("-test", "test is part of every key"),
        ("-device", "device is part of every key"),
        ("-method_version", "method_version is part of every key"),
        ("-version", "version is part of every key"),
        ("+gpu_temperature", "is a live reading"),
        ("+share", "is a live reading"),
        ("+sm_mhz", "is a live reading"),
    ],
)
def test_what_a_key_can_t_be(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        changed_key(KEY, FACTS, parse_key_changes(text))
