"""A comparison as JUnit XML, which every CI shows: a test case an arm and rule."""

import re
from xml.etree import ElementTree

from bench.compare.across import between
from bench.compare.findings import GateCase, cases
from bench.compare.judge import GateStatus, VersionComparison
from bench.statistics.text import sentences

# What XML 1.0 has no place for, not even escaped: https://www.w3.org/TR/xml/#charsets
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_junit(comparison: VersionComparison) -> str:
    """Undecided ones are skipped, or failures where they fail the gate. ASCII, with references."""
    joined = comparison.joined
    name = sentences(f"bench compare {joined.base.name} {joined.new.name}", between(joined))
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(root, "testsuite", name=_allowed(name))
    suite.extend(_testcase(case, comparison.fails(case.outcome)) for case in cases(comparison))
    suite.set("tests", str(len(suite)))
    suite.set("errors", "0")
    for count, tag in (("failures", "failure"), ("skipped", "skipped")):
        suite.set(count, str(len(suite.findall(f"testcase/{tag}"))))
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="us-ascii", xml_declaration=True)
    return text.decode("ascii") + "\n"


def _testcase(case: GateCase, fails: bool) -> ElementTree.Element:
    """What it is about stands in an attribute and as text: some readers know one of them alone."""
    arm, name, about = map(_allowed, (case.arm, case.name, case.about))
    element = ElementTree.Element("testcase", classname=arm, name=name)
    if fails:
        ElementTree.SubElement(element, "failure", message=about, type=case.outcome).text = about
    elif case.outcome is GateStatus.UNDECIDED:
        ElementTree.SubElement(element, "skipped", message=about).text = about
    elif about:
        ElementTree.SubElement(element, "system-out").text = about
    return element


def _allowed(text: str) -> str:
    return FORBIDDEN.sub("?", text)
