"""The anchor on the real server and beside a callable."""

from __future__ import annotations

import json

import pytest

from pytest_gpuperf.targets.anchor import DIGEST
from tests.e2e.invocations import CALLABLES, Run, record_files

pytestmark = pytest.mark.timeout(240)


def test_anchored_records_have_a_separate_baseline(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_suite=CALLABLES)
    only = ("-k", "test_other")
    run(*only).assert_outcomes(passed=1)
    first = run(*only, "--gpuperf-anchor")
    first.assert_outcomes(passed=1)
    first.stdout.fnmatch_lines(["*NO BASELINE with this key*", f"*anchor is None, not {DIGEST}*"])
    run(*only, "-o", "gpuperf_anchor=true").stdout.fnmatch_lines(["*compared with 1 baseline record*"])
    stored = [json.loads(path.read_text()) for path in record_files(pytester.path)]
    anchored = [document["record"] for document in stored if document["record"]["key"].get("anchor") == DIGEST]
    assert len(anchored) == 2
    for record in anchored:
        for measured in record["runs"]:
            # A disturbed window is measured again, and a window of the anchor with it.
            assert len(measured["anchors"]) == len(measured["windows"]) >= 6
            assert all(window["throughput"] > 0 for window in measured["anchors"])
