from __future__ import annotations

import json
import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.targets.kserve.memory import SystemRegion
from pytest_gpuperf.targets.kserve.message import MemoryRange, OutputSlot
from pytest_gpuperf.targets.kserve.output_check import OutputCheck, describe_difference
from pytest_gpuperf.targets.payload import Array, TensorSpec, to_array

RIGHT: dict[str, Array] = {"y": np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)}


def answer(values: Any, datatype: str = "FP32", name: str = "y") -> bytes:
    array = np.asarray(values)
    return json.dumps(
        {"outputs": [{"name": name, "datatype": datatype, "shape": array.shape, "data": array.reshape(-1).tolist()}]}
    ).encode()


def check(expected: Any = None, tolerance: float = 1e-3) -> OutputCheck:
    """As it arrives in another process."""
    sent: OutputCheck = pickle.loads(pickle.dumps(OutputCheck("http", expected or RIGHT, tolerance)))
    return sent


class TestDifference:
    def of(self, right: Any, found: Any, tolerance: float = 1e-3) -> str:
        return describe_difference({"y": np.asarray(right)}, {"y": np.asarray(found)}, tolerance)

    @given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9))
    def test_there_is_none_to_itself(self, values: list[float]) -> None:
        assert self.of(values, values, 0.0) == ""

    def test_floats_have_a_tolerance(self) -> None:
        assert self.of([100.0, 100.0], [100.05, 99.95]) == ""
        assert "element [0]" in self.of([100.0, 100.0], [100.2, 99.9])

    def test_a_small_number_among_large_ones_is_no_more_exact(self) -> None:
        assert self.of([1e-6, 10.0], [2e-6, 10.0]) == ""
        assert self.of([1e-6, 1e-6], [2e-6, 1e-6]) != ""

    def test_names_the_worst_element_and_both_values(self) -> None:
        said = self.of(RIGHT["y"], [[1.0, 2.0], [3.5, 9.0]])
        assert said == "output 'y': element [1, 1] is 9.0, not 4.0 (tolerance 0.001)"

    def test_what_is_not_a_number_is_equal_only_to_itself(self) -> None:
        odd = [np.nan, np.inf, -np.inf, 1.0]
        assert self.of(odd, odd) == ""
        for index in range(4):
            wrong = list(odd)
            wrong[index] = 5.0 if index < 3 else np.nan
            assert f"element [{index}]" in self.of(odd, wrong, 0.5)
        assert "element [1]" in self.of(odd, [np.nan, -np.inf, -np.inf, 1.0], 0.5)

    def test_integers_must_be_equal(self) -> None:
        big = 2**63
        assert self.of(np.array([big, 1], np.uint64), np.array([big, 1], np.uint64), 1.0) == ""
        said = self.of(np.array([big, 1], np.uint64), np.array([0, 2], np.uint64), 1.0)
        assert said == f"output 'y': element [0] is 0, not {big}"

    def test_booleans_and_strings_must_be_equal(self) -> None:
        assert "element [1] is False, not True" in self.of([True, True], [True, False], 1.0)
        spec = TensorSpec("y", "BYTES", ())
        right, found = (to_array(spec, [["a", text]]) for text in ("b", "c" * 100))
        assert self.of(right, right) == ""
        said = self.of(right, found)
        assert said.startswith("output 'y': element [0, 1] is b'ccc")
        assert said.endswith("..., not b'b'")

    def test_shapes_and_names(self) -> None:
        assert self.of([1.0, 2.0], [[1.0, 2.0]]) == "output 'y' has the shape [1, 2], not [2]"
        said = describe_difference(RIGHT, {"logits": RIGHT["y"]}, 1.0)
        assert said == "there is no output 'y'; the answer has logits"

    def test_of_nothing(self) -> None:
        assert self.of(np.zeros((0, 3)), np.zeros((0, 3))) == ""


def judge(outputs: dict[str, Array]) -> bool:
    return float(outputs["y"].sum()) == 10.0


def explain(outputs: dict[str, Array]) -> str:
    return "" if outputs["y"].size == 4 else f"{outputs['y'].size} elements"


def broken(outputs: dict[str, Array]) -> bool:
    return bool(outputs["z"].any())


class TestAnswers:
    def test_right_and_wrong(self) -> None:
        found = check()
        assert found(answer([[1, 2], [3, 4]]), {}) == ""
        assert "element [1, 1] is 5.0, not 4.0" in found(answer([[1, 2], [3, 5]]), {})
        assert found(answer([[1, 2], [3, 4]]), {}) == ""

    def test_a_wrong_answer_stays_wrong(self) -> None:
        found = check()
        wrong = answer([[1, 2], [3, 5]])
        assert found(wrong, {}) == found(wrong, {}) != ""

    def test_the_same_bytes_are_not_parsed_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = check()
        bodies = [answer([[1, 2], [3, 4 + step * 1e-6]]) for step in range(3)]
        assert [found(body, {}) for body in bodies] == [""] * 3

        def parsed(*_: object) -> None:
            raise AssertionError("parsed again")

        monkeypatch.setattr(json, "loads", parsed)
        assert [found(bytes(bytearray(body)), {}) for body in bodies] == [""] * 3
        with pytest.raises(AssertionError):
            found(answer([[1, 2], [3, 5]]), {})

    def test_the_same_bytes_under_other_headers_are_another_answer(self) -> None:
        found = check()
        body = answer([[1, 2], [3, 4]])
        assert found(body, {}) == ""
        assert found(body, {"content-encoding": "gzip"}) != ""

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"outputs": 3}', b'{"outputs": [{}]}', b'{"outputs": [3]}'])
    def test_that_can_not_be_read(self, body: bytes) -> None:
        assert check()(body, {}).startswith("it can't be read")

    def test_a_function_judges(self) -> None:
        assert check(judge)(answer([[1, 2], [3, 4]]), {}) == ""
        assert check(judge)(answer([[1, 2], [3, 5]]), {}) == "expected= rejected it"
        assert check(explain)(answer([[1]]), {}) == "1 elements"
        assert check(broken)(answer([[1]]), {}) == "expected= raised KeyError('z')"


class TestSharedMemory:
    @pytest.fixture
    def region(self) -> Iterator[SystemRegion]:
        made = SystemRegion(f"gpuperf-test-{uuid.uuid4().hex[:8]}", 4096)
        yield made
        made.remove()

    def body(self, shape: list[int], datatype: str = "FP32") -> bytes:
        """What Triton answers: it doesn't say where the values are."""
        return json.dumps({"outputs": [{"name": "y", "datatype": datatype, "shape": shape}]}).encode()

    def check(self, region: SystemRegion, expected: dict[str, Array], size: int = 16) -> OutputCheck:
        slot = OutputSlot(region.reader(), {"y": MemoryRange(region.name, 256, size)})
        sent: OutputCheck = pickle.loads(pickle.dumps(OutputCheck("http", expected, 1e-3, slot)))
        return sent

    def test_its_own_slot_is_read_each_time(self, region: SystemRegion) -> None:
        found = self.check(region, RIGHT)
        region.write(bytes(256) + RIGHT["y"].tobytes())
        assert found(self.body([2, 2]), {}) == ""
        assert found(self.body([2, 2]), {}) == ""
        region.write(bytes(256) + np.array([1, 2, 3, 5], np.float32).tobytes())
        assert "element [1, 1] is 5.0, not 4.0" in found(self.body([2, 2]), {})

    def test_strings_end_where_their_number_says(self, region: SystemRegion) -> None:
        found = self.check(region, {"y": to_array(TensorSpec("y", "BYTES", ()), ["ab", "c"])}, 1000)
        region.write(bytes(256) + b"\2\0\0\0ab\1\0\0\0c")
        assert found(self.body([2], "BYTES"), {}) == ""

    def test_more_than_fits(self, region: SystemRegion) -> None:
        found = self.check(region, RIGHT)
        assert "36 bytes of outputs do not fit into 16 bytes of shared memory" in found(self.body([3, 3]), {})

    def test_memory_that_is_gone(self, region: SystemRegion) -> None:
        found = self.check(region, RIGHT)
        region.remove()
        assert not Path("/dev/shm", region.name).exists()
        assert f"/dev/shm/{region.name} can't be read" in found(self.body([2, 2]), {})
