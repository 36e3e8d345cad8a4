"""The runner of workflows itself: expressions, conditions, what passes from step to step."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.builders.expressions import ExpressionError, Loose, Scope, formatted
from tests.builders.workflow import Event, Run, Runner

PUSH = Event()
SCOPE = Scope(
    {"github": {"ref": "refs/heads/main", "event": Loose()}, "vars": Loose(SITE="here"), "n": 0},
    {"no": lambda: False, "format": formatted},
)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("github.ref == 'refs/heads/MAIN'", True),  # as GitHub compares text
        ("github.event.label.name == 'bench-gpu'", False),
        ("vars.SITE || 'there'", "here"),
        ("vars.OTHER || format('{0}-{1}', 'a', vars.SITE)", "a-here"),
        ("!no() && (n || 'it''s')", "it's"),
        ("github.ref != 'a' && vars.OTHER", ""),
    ],
)
def test_expressions_are_what_github_makes_of_them(expression: str, value: Any) -> None:
    assert SCOPE.value(expression) == value


@pytest.mark.parametrize(
    "expression", ["secrets.TOKEN", "github.token", "toJSON(n)", "n n", "n +", "(n", "n ==", "1"]
)
def test_what_is_not_known_is_an_error(expression: str) -> None:
    with pytest.raises(ExpressionError):
        SCOPE.value(expression)


def run(origin: Path, tmp_path: Path, steps: str, event: Event = PUSH) -> Run:
    text = (
        f"name: w\njobs:\n  first:\n    steps:\n{steps}  second:\n    needs: first\n    steps: []"
    )
    return Runner(tmp_path, origin, event).run(yaml.safe_load(text))


def test_outputs_variables_paths_and_the_summary_reach_later_steps(
    origin: Path, tmp_path: Path
) -> None:
    steps = """\
    - id: one
      run: |
        echo a=b >>"$GITHUB_OUTPUT"
        echo C=d >>"$GITHUB_ENV"
        mkdir bin; printf '#!/bin/sh\\necho mine' >bin/git; chmod +x bin/git
        echo "$PWD/bin" >>"$GITHUB_PATH"
    - run: echo "$A $C $(git) $CI" | tee -a "$GITHUB_STEP_SUMMARY"
      env: {A: "${{ steps.one.outputs.a }}"}
"""
    ended = run(origin, tmp_path, steps)
    assert ended.jobs == {"first": "success", "second": "success"}
    assert ended.summary == "b d mine true\n"
    assert ended.steps[1].said == "b d mine true\n"


def test_a_failed_step_ends_the_job_but_for_steps_that_ask_to_run(
    origin: Path, tmp_path: Path
) -> None:
    steps = """\
    - {run: "false\\necho on"}
    - {run: echo passed over}
    - {run: echo told, if: "${{ !cancelled() }}"}
    - {run: echo only then, if: failure()}
"""
    ended = run(origin, tmp_path, steps)
    assert ended.failed == ["first, step 1: false\necho on"]
    assert ended.jobs == {"first": "failure", "second": "skipped"}
    outcomes = [(step.outcome, step.said) for step in ended.steps]
    assert outcomes[1:] == [("skipped", ""), ("success", "told\n"), ("success", "only then\n")]


def test_what_the_runner_does_not_know_is_not_passed_over(origin: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="'shell'} is not known here"):
        run(origin, tmp_path, "    - {run: x, shell: python}\n")
    with pytest.raises(ExpressionError, match="secrets"):
        run(origin, tmp_path, '    - run: echo "${{ secrets.TOKEN }}"\n')


CHECKOUT = "    - {{uses: actions/checkout@x, with: {{{0}}}}}\n"


def test_checkout_brings_tags_only_where_it_is_asked_to_and_keeps_no_token(
    origin: Path, tmp_path: Path
) -> None:
    tell = "    - run: git tag; cat .git/config; git log --oneline | wc -l\n"
    shallow = run(origin, tmp_path / "a", CHECKOUT.format("") + tell).steps[1].said
    assert "v0.0.1" not in shallow
    assert "a-token" in shallow
    assert shallow.endswith("1\n")
    whole = CHECKOUT.format("fetch-depth: 0, persist-credentials: false")
    said = run(origin, tmp_path / "b", whole + tell).steps[1].said
    assert said.startswith("v0.0.1\n")
    assert "a-token" not in said
    assert said.endswith("2\n")


def test_a_cache_is_found_by_its_own_key_alone(origin: Path, tmp_path: Path) -> None:
    cache = "    - {{id: c, uses: actions/cache@x, with: {{path: ~/x, key: {0}}}}}\n"
    tell = '    - run: echo "${{ steps.c.outputs.cache-hit }}"; mkdir -p ~/x; touch ~/x/a\n'
    for key, hit in (("one", "false\n"), ("one", "true\n"), ("o", "false\n")):
        ended = run(origin, tmp_path, cache.format(key) + tell)
        assert ended.steps[1].said == hit


def test_an_artifact_must_have_files_and_a_name_of_its_own(origin: Path, tmp_path: Path) -> None:
    given = "name: a, path: {0}, if-no-files-found: error"
    upload = f"    - {{{{uses: actions/upload-artifact@x, with: {{{{{given}}}}}}}}}\n"
    steps = "    - run: mkdir -p d/.e; touch d/f d/.e/g\n" + upload.format("d")
    ended = run(origin, tmp_path, steps + upload.format("d") + upload.format("none"))
    assert [path.name for path in ended.artifact("a").rglob("*")] == ["f"]
    assert [step.outcome for step in ended.steps] == ["success", "success", "failure", "skipped"]
    ended = run(origin, tmp_path / "2", upload.format("none"))
    assert "there are no files at none" in ended.steps[0].said


def test_an_artifact_of_several_paths_has_what_all_lie_in_as_its_root(
    origin: Path, tmp_path: Path
) -> None:
    steps = """\
    - run: mkdir -p all/a all/other; touch all/a/f all/b.txt all/other/g
    - {uses: actions/upload-artifact@x, with: {name: a, path: "all/a/\\nall/b.txt\\nall/none/"}}
"""
    ended = run(origin, tmp_path, steps)
    found = {
        path.relative_to(ended.artifact("a")).as_posix()
        for path in ended.artifact("a").rglob("*")
        if path.is_file()
    }
    assert found == {"a/f", "b.txt"}


def test_the_site_is_published_by_a_job_with_these_rights_alone(
    origin: Path, tmp_path: Path
) -> None:
    steps = """\
    - run: mkdir site; echo a >site/index.html
    - {uses: actions/upload-pages-artifact@x, with: {path: site/}}
    - {uses: actions/deploy-pages@x}
"""
    ended = run(origin, tmp_path, steps)
    assert ended.failed == ["first, step 3: actions/deploy-pages@x"]
    assert "the job's permissions must be" in ended.steps[2].said
