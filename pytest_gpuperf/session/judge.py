"""By which rule a test is judged, while it is measured and when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gpuperf.analysis.compare import Rule
from pytest_gpuperf.analysis.values import GATED

if TYPE_CHECKING:
    from pytest_gpuperf.session.marker import Marker
    from pytest_gpuperf.session.state import State


def rule_of(state: State, marker: Marker, look_share: float = 1.0) -> Rule:
    """The rule of one test.

    Args:
        look_share: the part of the test's alpha that this look may spend.
    """
    settings = state.settings
    return Rule(
        prior=state.prior,
        alpha=settings.alpha,
        tests=state.gated_tests,
        min_effect=settings.min_effect if marker.min_effect is None else marker.min_effect,
        metrics=GATED if marker.metrics is None else marker.metrics,
        look_share=look_share,
    )
