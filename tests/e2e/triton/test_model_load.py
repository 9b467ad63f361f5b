"""The time in which a tritonserver loaded its models, from its log."""

from __future__ import annotations

import pytest

from pytest_gpuperf.targets.triton.log import model_load_s

GLOG = """\
I1130 23:02:59.985763 30403 model_lifecycle.cc:472] "loading: anchor:1"
I1130 23:02:59.995439 30403 python_be.cc:2249] "TRITONBACKEND_ModelInstanceInitialize: anchor_0_0 (CPU device 0)"
I1130 23:03:00.421582 30403 model_lifecycle.cc:839] "successfully loaded 'anchor'"
"""


def test_it_lasts_from_the_first_model_to_the_last() -> None:
    assert model_load_s(GLOG) == pytest.approx(0.435819)
    second = "I1130 23:03:02.985763 30403 model_lifecycle.cc:839] successfully loaded 'other' version 1\n"
    assert model_load_s(GLOG + second) == pytest.approx(3.0)


def test_iso_times_and_midnight() -> None:
    text = "2026-11-30T23:59:59.5Z I loading: a:1\n2026-12-01T00:00:01.25Z I successfully loaded 'a'\n"
    assert model_load_s(text) == pytest.approx(1.75)


@pytest.mark.parametrize("text", ["", "loading: anchor:1", GLOG.splitlines()[0]])
def test_a_log_without_both_is_unknown(text: str) -> None:
    assert model_load_s(text) is None
