from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.targets.triton import Step
from pytest_gpuperf.targets.triton.ensemble import Ensemble, join_steps
from pytest_gpuperf.targets.triton.resolved_model import ServerCapabilities, resolve_model

SERVER = ServerCapabilities("a server", frozenset({"python", "tensorrt"}), gpu=True, cores=1)


class Steps:
    """Python steps of one file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, inputs: dict[str, str], outputs: dict[str, str], **settings: Any) -> Step:
        path = self.folder / f"{name}.py"
        path.write_text("def run(**arrays): pass")
        return Step(path, input_tensors=inputs, output_tensors=outputs, **settings)


@pytest.fixture
def step(tmp_path: Path) -> Steps:
    return Steps(tmp_path)


def joined(*steps: Step, name: str = "all") -> Ensemble:
    return join_steps(name, steps, [resolve_model(one.model_name, one.path, one, SERVER) for one in steps])


def wires(ensemble: Ensemble) -> list[tuple[str, dict[str, str], dict[str, str]]]:
    return [(link.model, dict(link.inputs), dict(link.outputs)) for link in ensemble.steps]


def test_steps_of_one_tensor_each_are_joined_in_order(step: Steps) -> None:
    ensemble = joined(
        step("resize", {"photo": "UINT8[-1,-1,3]"}, {"image": "FP32[3,8,8]"}),
        step("net", {"x": "FP32[3,8,8]"}, {"y": "FP32[10]"}, max_batch_size=4),
    )
    assert wires(ensemble) == [
        ("resize", {"photo": "photo"}, {"image": "resize.image"}),
        ("net", {"x": "resize.image"}, {"y": "y"}),
    ]
    assert ensemble.max_batch_size == 4
    assert [(spec.name, spec.shape) for spec in ensemble.inputs] == [("photo", (-1, -1, -1, 3))]
    assert [(spec.name, spec.shape) for spec in ensemble.outputs] == [("y", (-1, 10))]


def test_names_join_steps_of_several_tensors_the_nearest_first(step: Steps) -> None:
    ensemble = joined(
        step("a", {"x": "FP32[1]"}, {"u": "FP32[1]", "v": "FP32[1]"}),
        step("b", {"u": "FP32[1]"}, {"u": "FP32[1]"}),
        step("c", {"u": "FP32[1]", "v": "FP32[1]", "limit": "FP32[1]"}, {"y": "FP32[1]", "z": "FP32[1]"}),
    )
    assert wires(ensemble)[2] == ("c", {"u": "b.u", "v": "a.v", "limit": "limit"}, {"y": "y", "z": "z"})
    assert [spec.name for spec in ensemble.inputs] == ["x", "limit"]


def test_feed_goes_before_names(step: Steps) -> None:
    ensemble = joined(
        step("a", {"x": "FP32[1]"}, {"u": "FP32[1]"}),
        step("b", {"x": "FP32[1]"}, {"u": "FP32[1]"}, feed={"x": "x"}),
        step("c", {"u": "FP32[1]", "w": "FP32[1]"}, {"y": "FP32[1]"}, feed={"u": "a.u", "w": "b.u"}),
    )
    assert [link[1] for link in wires(ensemble)] == [{"x": "x"}, {"x": "x"}, {"u": "a.u", "w": "b.u"}]
    assert [spec.name for spec in ensemble.inputs] == ["x"]


def test_one_step_without_batches_is_enough_for_none(step: Steps) -> None:
    ensemble = joined(
        step("decode", {"jpeg": "UINT8[-1]"}, {"image": "FP32[1,3,8,8]"}, max_batch_size=0),
        step("net", {"x": "FP32[3,8,8]"}, {"y": "FP32[10]"}),
    )
    assert ensemble.max_batch_size == 0
    assert [(spec.name, spec.shape) for spec in (*ensemble.inputs, *ensemble.outputs)] == [
        ("jpeg", (-1,)),
        ("y", (-1, 10)),
    ]


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        ({"z": "a.u"}, "feed names the unknown input 'z'; inputs are x"),
        ({"x": "a.w"}, "'a' has no output 'w'; it has u"),
        ({"x": "a.n"}, "'a' has no output 'n'"),
    ],
)
def test_a_feed_that_leads_nowhere(step: Steps, feed: dict[str, str], message: str) -> None:
    first = step("a", {"x": "FP32[1]"}, {"u": "FP32[1]"})
    with pytest.raises(OptionError, match=message):
        joined(first, step("b", {"x": "FP32[1]"}, {"y": "FP32[1]"}, feed=feed))


def test_types_have_to_fit(step: Steps) -> None:
    first = step("a", {"x": "FP32[1]"}, {"u": "FP16[1]"})
    with pytest.raises(OptionError, match=r"b: input 'x' is FP32, but its source 'a.u' is FP16"):
        joined(first, step("b", {"x": "FP32[1]"}, {"y": "FP32[1]"}))


def test_names_must_differ(step: Steps) -> None:
    a = step("a", {"x": "FP32[1]"}, {"u": "FP32[1]"})
    for steps, name in (((a, a), "all"), ((a,), "a")):
        with pytest.raises(OptionError, match="Two models of the ensemble are called 'a'"):
            joined(*steps, name=name)


def test_a_plan_must_declare_its_tensors(step: Steps, tmp_path: Path) -> None:
    (tmp_path / "net.plan").write_bytes(b"plan")  # an empty file is refused earlier
    with pytest.raises(OptionError, match=r"net.plan is a step of an ensemble.*input_tensors="):
        joined(step("a", {"x": "FP32[1]"}, {"u": "FP32[1]"}), Step(tmp_path / "net.plan"))
