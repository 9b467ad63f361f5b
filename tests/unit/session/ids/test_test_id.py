from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.session.ids.test_id import IdScheme, StatedNames

SUITE = """
    import pytest

    @pytest.mark.xdist_group("gpu")
    def test_plain(): pass

    class TestClass:
        @pytest.mark.parametrize("size", [1, "a::b"])
        def test_sizes(self, size): pass

    @pytest.mark.gpuperf(name="resnet")
    def test_named(): pass

    @pytest.mark.gpuperf(name="sizes")
    @pytest.mark.parametrize("size", [1, 2])
    def test_named_sizes(size): pass
"""


@pytest.fixture
def items(pytester: pytest.Pytester) -> list[pytest.Item]:
    pytester.makeini("[pytest]\nmarkers = xdist_group(name): group")
    return pytester.getitems(SUITE)


def scheme(root: Path) -> IdScheme:
    return IdScheme.of(root, root)


def test_ids_are_pytest_s_where_its_root_is_the_checkout_s(items: list[pytest.Item], pytester: pytest.Pytester) -> None:
    ids = scheme(pytester.path)
    assert [ids.node_id(item) for item in items] == [item.nodeid for item in items]
    subprocess.run(["git", "init", "-q"], cwd=pytester.path, check=True)
    assert [ids.node_id(item) for item in items] == [item.nodeid for item in items]


def test_ids_begin_at_the_top_of_the_checkout(items: list[pytest.Item], pytester: pytest.Pytester) -> None:
    subprocess.run(["git", "init", "-q"], cwd=pytester.path.parent, check=True)
    try:
        ids = scheme(pytester.path)
        assert [ids.node_id(item) for item in items] == [f"{pytester.path.name}/{item.nodeid}" for item in items]
    finally:
        (pytester.path.parent / ".git" / "HEAD").unlink()


class GroupedFunction(pytest.Function):
    """A test whose id has a group at its end, as pytest-xdist makes it with ``--dist loadgroup``."""

    @property
    def nodeid(self) -> str:
        return f"{super().nodeid}@gpu"


def test_the_group_of_xdist_is_no_part_of_an_id(items: list[pytest.Item], pytester: pytest.Pytester) -> None:
    ids, item = scheme(pytester.path), items[0]
    assert isinstance(item, pytest.Function)
    grouped: pytest.Item = GroupedFunction.from_parent(item.parent, name=item.name, callobj=item.obj)
    assert grouped.nodeid == f"{item.nodeid}@gpu"
    assert ids.test_id(grouped) == ids.test_id(item) == item.nodeid


def test_a_stated_name_is_the_id_with_the_parameters(items: list[pytest.Item], pytester: pytest.Pytester) -> None:
    ids = scheme(pytester.path)
    assert [ids.test_id(item) for item in items[3:]] == ["resnet", "sizes[1]", "sizes[2]"]
    assert ids.node_id(items[3]).endswith("::test_named")


def test_two_tests_of_one_name_are_refused(items: list[pytest.Item], pytester: pytest.Pytester) -> None:
    names = StatedNames(scheme(pytester.path))
    for item in items:
        names.add(item)
        names.add(item)
    assert [names.test_id(item) for item in items[3:]] == ["resnet", "sizes[1]", "sizes[2]"]
    items[0].add_marker(pytest.mark.gpuperf(name="resnet"))
    names.add(items[0])
    for item in (items[0], items[3]):
        with pytest.raises(
            OptionError, match=r"2 tests are named 'resnet' by their markers:\n.*test_named\n.*test_plain"
        ):
            names.test_id(item)
