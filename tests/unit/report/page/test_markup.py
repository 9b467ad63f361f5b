from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gpuperf.report.page.markup import Markup, data_block, element, joined

HOSTILE = "</script><script>alert(1)</script><!-- \"' & \u2028"


def test_texts_and_attributes_are_escaped() -> None:
    made = element("p", HOSTILE, title=HOSTILE)
    assert "<script" not in made
    assert made.count("<") == 2
    assert made.startswith('<p title="&lt;/script&gt;')
    assert '"' not in made.removeprefix('<p title="').split('">', 1)[0]


def test_elements_stay_elements() -> None:
    assert element("p", "a < b ", element("b", "c"), None) == "<p>a &lt; b <b>c</b></p>"
    assert joined(["<", Markup("<i>"), None]) == "&lt;<i>"


def test_attributes() -> None:
    made = element("details", class_="a", data_test=3, open=True, hidden=False, title=None)
    assert made == '<details class="a" data-test="3" open></details>'


def test_joined_markup_is_escaped_as_text() -> None:
    """Whatever is made of an element by a string's own methods has to be escaped anew."""
    assert element("p", Markup("<b>").upper()) == "<p>&lt;B&gt;</p>"


@settings(max_examples=40, deadline=None)
@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_data_survives_and_never_ends_its_block(data: object) -> None:
    text = data_block("chart-data", [data, HOSTILE])
    inner = text.removeprefix('<script type="application/json" id="chart-data">').removesuffix("</script>")
    assert not set(inner) & set("<>&\u2028\u2029")
    assert json.loads(inner) == [data, HOSTILE]


def test_there_is_no_number_that_json_does_not_have() -> None:
    with pytest.raises(ValueError, match="JSON"):
        data_block("chart-data", float("nan"))
