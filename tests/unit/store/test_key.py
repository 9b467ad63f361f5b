from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.store import key_digest, slug
from pytest_gpuperf.store.key import canonical, difference
from tests.unit.factories import KEY


def test_a_digest_is_twelve_hexadecimal_digits() -> None:
    assert re.fullmatch(r"[0-9a-f]{12}", key_digest(KEY))


def test_the_order_of_fields_does_not_matter() -> None:
    assert key_digest(dict(reversed(list(KEY.items())))) == key_digest(KEY)


@pytest.mark.parametrize("name", list(KEY))
def test_every_field_matters(name: str) -> None:
    assert key_digest({**KEY, name: "another"}) != key_digest(KEY)
    assert key_digest({field: value for field, value in KEY.items() if field != name}) != key_digest(KEY)


def test_a_field_more_matters() -> None:
    assert key_digest({**KEY, "driver": "570"}) != key_digest(KEY)


def test_a_key_holds_no_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"power_limit_w": float("nan")})


@given(st.text(max_size=100))
def test_a_slug_is_a_folder_name(text: str) -> None:
    assert re.fullmatch(r"[a-z0-9](-?[a-z0-9]|-)*", slug(text))
    assert len(slug(text)) <= 60


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("NVIDIA A100-SXM4-80GB, MIG 1g.10gb", "nvidia-a100-sxm4-80gb-mig-1g-10gb"),
        ("../../etc", "etc"),
        ("", "unnamed"),
        ("日本", "unnamed"),
    ],
)
def test_slugs_stay_readable(text: str, folder: str) -> None:
    assert slug(text) == folder


def test_differing_fields_are_named_with_both_values() -> None:
    assert difference({"a": 1, "b": 2, "gone": "x"}, {"a": 1, "b": 3, "new": "y"}) == {
        "b": (2, 3),
        "gone": ("x", None),
        "new": (None, "y"),
    }
    assert difference(KEY, dict(KEY)) == {}
