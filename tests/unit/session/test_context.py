from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from pytest_gpuperf.analysis.priors import PRIORS, Priors
from pytest_gpuperf.model import METHOD_VERSION
from pytest_gpuperf.session.context import Context, read_context
from pytest_gpuperf.store import Calibration, write_calibration
from tests.unit.session.contexts import TEST, context_of


def test_it_is_frozen_and_each_invocation_has_an_id(pytester: pytest.Pytester) -> None:
    context = context_of(pytester)
    with pytest.raises(FrozenInstanceError):
        context.invocation = ""  # type: ignore[misc]
    assert len(context.invocation) == 32
    assert context.invocation != context_of(pytester).invocation
    assert context.reports_here


def test_workers_of_xdist_share_the_invocation_and_leave_reports_to_the_controller(pytester: pytest.Pytester) -> None:
    config: Any = pytester.parseconfig("--gpuperf", "--gpuperf-device=cpu")
    config.workerinput = {"testrunuid": "ab" * 16, "workerid": "gw1"}
    context = read_context(config)
    assert (context.invocation, context.is_worker, context.reports_here) == ("ab" * 16, True, False)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--gpuperf-device=GPU-none", "GPU-none"),
        ("--gpuperf-key=-nothing", "nothing is not a field of this key"),
        ("--gpuperf-store=nowhere://store", "nowhere"),
    ],
)
def test_what_can_t_be_used_ends_pytest_before_any_test_but_not_a_smoke_run(
    pytester: pytest.Pytester, option: str, message: str
) -> None:
    arguments = ["--gpuperf-device=cpu", option]
    with pytest.raises(pytest.UsageError, match=message):
        read_context(pytester.parseconfig("--gpuperf", *arguments))
    assert not read_context(pytester.parseconfig(*arguments)).settings.measure


def test_the_key_says_what_must_match(pytester: pytest.Pytester) -> None:
    key = context_of(pytester).key(TEST, 3)
    assert (key["test"], key["version"], key["method_version"]) == (TEST, 3, METHOD_VERSION)
    assert str(key["device"]).startswith("CPU ")
    assert "anchor" in context_of(pytester, "--gpuperf-anchor").key(TEST, 3)
    assert "python" in context_of(pytester, "--gpuperf-key=+python").key(TEST, 3)


def test_conftest_files_add_facts_that_may_be_part_of_the_key(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("def pytest_gpuperf_environment(config): return {'node': 'rack-7'}")
    context = context_of(pytester, "--gpuperf-key=+node")
    assert context.environment(TEST)["node"] == "rack-7"
    assert context.key(TEST, 1)["node"] == "rack-7"
    assert read_context(pytester.parseconfig()).user_environment == {}


def test_the_prior_is_the_calibrated_one_where_there_is_one(pytester: pytest.Pytester) -> None:
    context = context_of(pytester)
    assert context.prior == PRIORS["cpu"]
    device = str(context.devices.first.key["device"])
    write_calibration(context.store, Calibration(device, {"p50": 0.01}, {"p50": 9.0}, 10, (TEST,)))
    calibrated = context_of(pytester).prior
    assert isinstance(calibrated, Priors)
    assert calibrated.of("", "", "p50").record_sd == 0.01


def test_the_header_names_the_device_and_the_store(pytester: pytest.Pytester) -> None:
    device, store = context_of(pytester).header_lines()
    assert device.startswith("gpuperf: device under test: CPU ")
    assert store == "gpuperf: records in .gpuperf"


def test_targets_get_the_device_and_the_server_of_the_running_test(pytester: pytest.Pytester) -> None:
    context: Context = context_of(pytester, "--gpuperf-triton=bundled")
    assert context.endpoint_defaults() == {"server": "bundled", "visible": ""}
    assert context.engine_defaults() == {"visible": ""}
