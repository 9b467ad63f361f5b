from __future__ import annotations

from pytest_gpuperf.model import ServerTimes
from pytest_gpuperf.targets.kserve.pipeline import Stage, ensemble_times
from pytest_gpuperf.targets.kserve.served_model import ServedModel

TREE = Stage("all", "0", (Stage("inner", "1", (Stage("a", "2"), Stage("b", "3"))), Stage("net", "4")))
TIMES = {
    "all": ServerTimes(2, 2, 1, 30, 600, 9),
    "inner": ServerTimes(2, 2, 2, 20, 200, 6),
    "a": ServerTimes(2, 2, 50, 10, 150, 3),
    "b": ServerTimes(2, 2, 70, 10, 50, 3),
    "net": ServerTimes(2, 1, 900, 10, 400, 3),
    "other": ServerTimes(5, 5, 5, 5, 5, 5),
}


def test_the_queues_of_all_steps_are_the_ensembles() -> None:
    times = ensemble_times(TREE, TIMES)
    assert times.stages["inner"].queue_ns == 2 + 50 + 70
    assert times.queue_ns == 1 + 122 + 900
    assert (times.requests, times.compute_infer_ns) == (2, 600), "Triton's own entry has the steps' computation"
    assert times.stages["net"] == TIMES["net"]
    assert list(times.stages["inner"].stages) == ["a", "b"]


def test_the_times_of_a_model_that_calls_others_include_theirs() -> None:
    stage = Stage("bls", "0", (Stage("net", "1", correlation_type="TYPE_UINT64"),), calls_stages=True)
    times = ensemble_times(stage, {**TIMES, "bls": TIMES["all"]})
    assert times.queue_ns == TIMES["all"].queue_ns, "its computation is the time of its calls, queues and all"
    assert times.stages == {"net": TIMES["net"]}
    assert not stage.tree_correlation_type, "the model makes the sequences of its calls itself"
    assert stage.tree_digest != Stage("bls", "0").tree_digest


def test_a_step_that_never_ran_has_times_of_zero() -> None:
    times = ensemble_times(TREE, {"all": TIMES["all"]})
    assert times.stages["net"] == ServerTimes(0, 0, 0, 0, 0, 0)


def test_the_digest_of_the_whole_covers_every_step() -> None:
    other = Stage("all", "0", (Stage("inner", "1", (Stage("a", "2"), Stage("b", "changed"))), Stage("net", "4")))
    assert len({TREE.tree_digest, other.tree_digest, TREE.digest}) == 3
    assert Stage("net", "4").tree_digest == "4"


def test_the_steps_of_a_configuration() -> None:
    config = {"ensemble_scheduling": {"step": [{"model_name": "a"}, {"model_name": "b"}, {"model_name": "a"}]}}
    assert ServedModel({}, config).steps == ("a", "b")
    assert ServedModel({}, {"max_batch_size": 4}).steps == ()
    assert ServedModel({}, None).steps == ()
