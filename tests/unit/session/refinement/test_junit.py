from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from pytest_gpuperf.session.refinement.junit import REFINED, complete

_SUITE = f"""<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite errors="1" tests="4">
<testcase classname="t" name="test_a"><properties><property name="user" value="1"/></properties></testcase>
<testcase classname="t" name="test_a" /><testcase classname="t" name="test_b" />
<testcase classname="t" name="test_b"><properties><property name="{REFINED}" value="regressed"/></properties><error
message="slow">slow</error></testcase></testsuite></testsuites>"""


def test_a_further_report_is_joined_with_its_test_and_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    path.write_text(_SUITE)
    complete(path, "all tests together regressed")
    suite = next(ElementTree.parse(path).getroot().iter("testsuite"))
    cases = [(case.get("name"), [child.tag for child in case]) for case in suite.iter("testcase")]
    assert cases == [
        ("test_a", ["properties"]),
        ("test_a", []),
        ("test_b", ["properties", "error"]),
        ("all tests together", ["error"]),
    ]
    assert suite.attrib == {"errors": "2", "tests": "4"}
