"""What can be measured: each kind of target in one module, all behind the protocols in ``target``."""

from pytest_gpuperf.targets.call import CallTarget, as_target
from pytest_gpuperf.targets.target import Placed, Replicated, RunningTarget, Scalable, Target

__all__ = ["CallTarget", "Placed", "Replicated", "RunningTarget", "Scalable", "Target", "as_target"]
