from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.report.markdown.size_limit import TextPart, fit


def note(cut: Counter[str]) -> str:
    return f"cut {cut.total()}"


BLOCKS = st.lists(
    st.builds(
        lambda lengths, rank: TextPart(tuple("x" * length for length in sorted(lengths, reverse=True)), rank),
        st.lists(st.integers(0, 200), min_size=1, max_size=3),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=12,
)


@given(BLOCKS, st.integers(20, 1000))
def test_a_text_keeps_under_its_size_or_says_that_it_was_cut(blocks: list[TextPart], most: int) -> None:
    whole = "\n\n".join(block.variants[0] for block in blocks if block.variants[0])
    text = fit(blocks, most, note)
    assert len(text) <= most
    assert (text == whole) == (len(whole) <= most)
    assert ("cut" in text) == (text != whole)


def test_parts_of_lower_rank_get_room_first_and_the_order_stays() -> None:
    blocks = [TextPart(("a" * 30, "a"), rank=2), TextPart(("b" * 30, "b"), rank=0), TextPart(("c" * 30, "c"), rank=1)]
    assert fit(blocks, 80, note).split("\n\n") == ["a", "cut 1", "b" * 30, "c" * 30]
    assert fit(blocks, 50, note).split("\n\n") == ["a", "cut 2", "b" * 30, "c"]
