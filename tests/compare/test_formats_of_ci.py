"""What a CI reads of a comparison: JUnit XML, and annotations of GitHub."""

import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.compare.annotations import as_annotations
from bench.compare.gate import LEFT, leave, make_gate
from bench.compare.judge import Compared, GateStatus, RuleResult, VersionComparison
from bench.compare.junit import as_junit
from bench.compare.pairing import Joined, PairedArm, Version
from bench.compare.rules import Rule
from tests.builders.shared import bench
from tests.builders.sides import STEP, Sides

LOSS = "val_loss_final>0.01"
COMMAND = re.compile(r"::(error|warning|notice) title=([^:,\r\n]*)::([^\r\n]*)")


def read(text: str) -> ElementTree.Element:
    """The suite, whose counts are those of its cases."""
    root = ElementTree.fromstring(text)
    (suite,) = root
    cases = suite.findall("testcase")
    told = {"tests": len(cases), "errors": 0}
    told |= {"failures": len(suite.findall("testcase/failure"))}
    told |= {"skipped": len(suite.findall("testcase/skipped"))}
    assert {key: int(suite.get(key, "")) for key in told} == told
    return suite


def outcomes(suite: ElementTree.Element) -> dict[tuple[str, str], tuple[str, str]]:
    """(arm, rule) -> (what it came to, its message)."""
    found = {}
    for case in suite.findall("testcase"):
        (inner,) = list(case) or [ElementTree.Element("passed")]
        if inner.tag in ("failure", "skipped"):
            assert inner.text == inner.get("message")  # readers know one of the two
        key = case.get("classname", ""), case.get("name", "")
        assert key not in found
        found[key] = (inner.tag, inner.text or "")
    return found


def unescaped(text: str) -> str:
    """As GitHub reads a property or a message: %25 last."""
    for code, sign in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, sign)
    return text


def commands(text: str) -> list[tuple[str, str, str]]:
    """(command, title, message) of each line, unescaped."""
    found = [COMMAND.fullmatch(line) for line in text.splitlines()]
    assert all(found), text
    return [tuple(map(unescaped, line.groups())) for line in found if line]


def mixed(sides: Sides) -> None:
    """Arms that pass, fail, are undecided, have a crashed seed, and are missing."""
    for arm, ratio in (("passes", 1.0), ("fails", 1.2), ("undecided", 1.05), ("crashes", 1.0)):
        sides.times(ratio, arm=arm)
    sides.pair(6, {"step_time_ms_p50": 10.0}, {"status": "oom"}, "crashes")
    sides.base.ended(sides.base.planned(optimizer="crashes", seed=7))
    sides.base.ended(sides.base.planned(optimizer="lacks"))


# --- Each outcome --------------------------------------------------------------------------------


def test_a_case_says_figure_interval_and_bound(sides: Sides) -> None:
    sides.times(1.2)
    suite = read(as_junit(sides.compared(STEP)))
    assert suite.get("name") == "bench compare base new"
    tag, about = outcomes(suite)["gpt + adamw, cpu", STEP]
    assert tag == "failure"
    figures = r"\+2\d\.\d\d % \(\+1\d\.\d\d % to \+2\d\.\d\d %\), allowed \+5 %"
    assert re.fullmatch(figures, about)
    line = sides.compared("tokens_per_s<-5%", LOSS)
    found = outcomes(read(as_junit(line)))
    assert "allowed -5 %" in found["gpt + adamw, cpu", "tokens_per_s<-5%"][1]
    assert found["gpt + adamw, cpu", LOSS] == (
        "system-out",
        "+0.0000 (n/a), allowed +0.01; identical at every seed",
    )


@pytest.mark.parametrize(("undecided_fails", "tag"), [(False, "skipped"), (True, "failure")])
def test_every_arm_and_rule_is_a_case_and_so_are_the_cells_of_an_arm(
    sides: Sides, undecided_fails: bool, tag: str
) -> None:
    mixed(sides)
    gate = make_gate([STEP, LOSS], "fail" if undecided_fails else "pass", "drop", "junit")
    compared = gate.compare(sides.base.write(), sides.new.write())
    found = outcomes(read(gate.write(compared)))
    arms = ("passes", "fails", "undecided", "crashes")
    whole = {(f"gpt + {arm}, cpu", rule) for arm in arms for rule in (STEP, LOSS, "cells")}
    assert found.keys() == whole | {("gpt + lacks, cpu", "cells")}
    tags = {(arm.split()[2][:-1], rule): one for (arm, rule), (one, _) in found.items()}
    assert tags["passes", STEP] == "system-out"
    assert tags["passes", "cells"] == "passed"
    assert tags["fails", STEP] == "failure"
    assert tags["undecided", STEP] == tag
    assert tags["lacks", "cells"] == tag
    assert found["gpt + crashes, cpu", "cells"] == (
        "failure",
        "seed 6 failed only in NEW (oom); 1 of 7 seeds ended only in BASE",
    )


@pytest.mark.parametrize(("undecided", "command"), [("pass", "warning"), ("fail", "error")])
def test_annotations_name_arm_figure_and_bound(sides: Sides, undecided: str, command: str) -> None:
    mixed(sides)
    gate = make_gate([STEP], undecided, "drop", "annotations")
    found = commands(gate.write(gate.compare(sides.base.write(), sides.new.write())))
    kinds = Counter(kind for kind, _, _ in found)
    assert kinds == Counter({"error": 2, "notice": 1}) + Counter({command: 2})
    assert ("error", "FAILED: cells") in {(kind, title) for kind, title, _ in found}
    (slow,) = [line for line in found if line[1] == f"FAILED: {STEP}"]
    assert slow[0] == "error"
    assert re.fullmatch(r"gpt \+ fails, cpu: \+2.* % \(.* to .*\), allowed \+5 %", slow[2])
    assert {line[0] for line in found if line[1].startswith("UNDECIDED")} == {command}
    notice = found[-1]
    assert (notice[0], notice[1]) == ("notice", "Passed: 5")
    (passed,) = [line for line in notice[2].splitlines() if "passes" in line and STEP in line]
    assert "allowed +5 %" in passed


def test_without_rules_there_is_no_case_and_one_notice(sides: Sides) -> None:
    sides.times(1.2)
    compared = sides.compared()
    assert outcomes(read(as_junit(compared))) == {}
    ((kind, _, message),) = commands(as_annotations(compared))
    assert (kind, message) == (
        "notice",
        "1 arm compared; no rule was given, so that nothing fails.",
    )


def test_versions_without_a_common_arm_have_their_cases(sides: Sides) -> None:
    sides.base.cell()
    sides.new.ended(sides.new.planned(optimizer="muon"))
    found = outcomes(read(as_junit(sides.compared(STEP))))
    assert found["all arms", STEP] == ("skipped", "allowed +5 %; the versions share no arm")
    assert found["gpt + adamw, cpu", "cells"] == ("skipped", "this arm is only in BASE")


def test_ab_leaves_all_that_a_ci_takes(sides: Sides, tmp_path: Path) -> None:
    sides.times(1.2)
    compared = sides.compared(STEP)
    leave(compared, tmp_path)
    assert {"compare.md", "compare.json", "compare.xml", "annotations.txt"} == {*LEFT}
    assert (tmp_path / "compare.md").read_text().startswith("**FAILED")
    assert (tmp_path / "compare.xml").read_text() == as_junit(compared)
    assert (tmp_path / "annotations.txt").read_text() == as_annotations(compared)


@pytest.mark.slow
def test_the_command_writes_both(sides: Sides) -> None:
    sides.times(1.2)
    folders = sides.base.write(), sides.new.write()
    junit = bench("compare", *folders, "--fail-on", STEP, "--format", "junit")
    assert junit.returncode == 1, junit.stderr
    assert outcomes(read(junit.stdout))["gpt + adamw, cpu", STEP][0] == "failure"
    lines = bench("compare", *folders, "--fail-on", STEP, "--format", "annotations")
    assert lines.returncode == 1, lines.stderr
    assert commands(lines.stdout)[0][0] == "error"


# --- Any text ------------------------------------------------------------------------------------

HOSTILE = st.sampled_from(["::error::x", "\n::stop-commands::x", "]]>", "<&\"'>", "%0A", "a,b:c"])
ANY = st.text(st.characters(exclude_categories=()), max_size=20) | HOSTILE
LABEL = ANY.map(lambda name: f"gpt + {name}")


def comparison(name: str, label: str, metric: str, why: str) -> VersionComparison:
    """One finding of each kind, about an arm and a rule of these names."""
    version, arm = Version(name, {}), PairedArm("a", label, "cpu", {}, {})
    rule = Rule(metric, 0.05, relative=True)
    findings = tuple(
        RuleResult(one, label, outcome, why)
        for one, outcome in ((rule, GateStatus.FAIL), (None, GateStatus.UNDECIDED))
    )
    joined = Joined(version, version, (arm,), (), ())
    arms = (Compared(arm, ()),)
    return VersionComparison(joined, (rule,), False, 0.95, arms, findings, False)


def in_xml(text: str) -> str:
    """Without what XML has no place for, as its specification lists it."""
    ranges = ((0x9, 0xA), (0xD, 0xD), (0x20, 0xD7FF), (0xE000, 0xFFFD), (0x10000, 0x10FFFF))
    allowed = (any(low <= ord(sign) <= high for low, high in ranges) for sign in text)
    return "".join(sign if kept else "?" for sign, kept in zip(text, allowed, strict=True))


@given(name=ANY, label=LABEL, metric=ANY, why=ANY)
def test_any_text_comes_out_of_the_xml_as_it_was(
    name: str, label: str, metric: str, why: str
) -> None:
    suite = ElementTree.fromstring(as_junit(comparison(name, label, metric, why)))[0]
    assert suite.get("name") == in_xml(f"bench compare {name} {name}")
    ruled, cells = suite
    assert ruled.get("classname") == cells.get("classname") == in_xml(label)
    assert ruled.get("name") == in_xml(f"{metric}>5%")
    message = "; ".join(filter(None, ("allowed +5 %", why)))
    assert ruled[0].get("message") == in_xml(message)
    assert cells[0].get("message") == in_xml(why)


@given(label=LABEL, metric=ANY, why=ANY)
def test_any_text_stays_within_its_annotation(label: str, metric: str, why: str) -> None:
    lines = commands(as_annotations(comparison("x", label, metric, why)))
    assert [kind for kind, _, _ in lines] == ["error", "warning"]
    (_, title, message), (_, _, cells) = lines

    def shown(text: str) -> str:
        return "".join(sign if sign.isprintable() or sign in "\r\n" else "?" for sign in text)

    assert title == shown(f"FAILED: {metric}>5%")
    assert message == shown("; ".join(filter(None, (f"{label}: allowed +5 %", why))))
    assert cells == shown(f"{label}: {why}" if why else label)
