"""What can be measured: each kind of target in one module, all behind the protocols in ``target``."""

from pytest_gpuperf.targets.call import CallTarget, as_target
from pytest_gpuperf.targets.target import RunningTarget, Target

__all__ = ["CallTarget", "RunningTarget", "Target", "as_target"]
