"""Disturbed rows in the report: marked, and out of the timings but never out of the losses."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.merge.asked import Asked
from bench.merge.coverage import notes
from bench.merge.curves import at_equal_cost, seconds, seed_lines, steps
from bench.merge.disturbed import names
from bench.merge.frames import SUMMARY, summary_rows
from bench.merge.merging import Merged, merge
from bench.merge.sections import Section, make_sections
from bench.records.columns import METRICS, RUN_COLUMNS, TIMINGS
from bench.records.rows import write_table
from bench.report.build import build_report
from bench.report.page.html import html
from bench.report.page.markdown import markdown
from bench.report.page.views import Part, make_page
from bench.report.plots.drawing import Drawing, make_scene
from bench.report.plots.gallery import draw_all
from bench.report.plots.lines import SECONDS, STEPS, arm_curves
from bench.report.plots.style import styles
from tests.builders.pictures import Draw, beside, scene_of, texts_of
from tests.builders.results import LATER, Results, sections_of
from tests.builders.tags import Tags

FOREIGN = "gpu_foreign_process 42%; cpu_steal 3.1% (of 2 CPUs; by the hypervisor)"
ARMS = ("adamw", "muon")


def paired(folder: Results, tainted: dict[tuple[str, int], str], seeds=(1, 2, 3)) -> Results:
    """Two arms with curves; `tainted` (arm, seed) -> reasons. A disturbed cell takes 100 times."""
    for optimizer in ARMS:
        for seed in seeds:
            run_id = folder.planned(optimizer=optimizer, seed=seed)
            reasons = tainted.get((optimizer, seed))
            time = seed * (1.0 if reasons is None else 100.0)
            told = {"tainted": reasons is not None, "taint_reasons": reasons or ""}
            folder.ended(run_id, train_time_s=time, val_loss_final=float(seed), **told)
            folder.curve(run_id, [(0, 0.0, 4.0), (100, time, float(seed))])
    return folder


def only_section(*folders: Results) -> Section:
    (section,) = sections_of(*folders)
    return section


def timed_seeds(section: Section) -> list[list[int]]:
    return [list(arm.spread("train_time_s").by_seed) for arm in section.arms]


@dataclass(frozen=True)
class Written:
    """The page in both forms, without its pictures."""

    html: str
    markdown: str

    def table(self, caption: str) -> tuple[list[dict[str, str]], str]:
        """A table's rows, heading -> field, and its note."""
        after = self.markdown.partition(f"# {caption}\n\n")[2].splitlines()
        end = next(i for i, line in enumerate(after) if not line.startswith("|"))
        lines = [[field.strip() for field in line.strip("|").split(" | ")] for line in after[:end]]
        head, _, *rows = lines
        return [dict(zip(head, row, strict=True)) for row in rows], after[end + 1]

    def caption(self, words: str) -> str:
        """The one of the picture that says these words."""
        captions = re.findall(r"<figcaption>(.*?)</figcaption>", self.html, re.DOTALL)
        (found,) = (caption for caption in captions if words in caption)
        return str(found)

    @property
    def captions(self) -> list[str]:
        """Of the bars, of the curves over their four costs, of the Pareto fronts."""
        costs = ("steps", "tokens", "time", "operations")
        curves = [f"Validation loss against training {cost}." for cost in costs]
        return [self.caption(words) for words in ("Bars:", *curves, "left and down is better")]


def written(*folders: Results, drawn: bool = False) -> Written:
    return page_of([folder.write() for folder in folders], drawn)


def drawings(section: Section, merged: Merged) -> tuple[Drawing, ...]:
    looks = styles(arm.label for arm in section.arms)
    return tuple(draw_all(make_scene(section, None, merged, "", looks, Asked(None))))


def page_of(folders: Sequence[Path], drawn: bool = False) -> Written:
    merged = merge(folders)
    parts = [
        Part("title", section, None, drawings(section, merged) if drawn else ())
        for section in make_sections(merged)
    ]
    page = make_page(merged, Asked(None), parts, [], folders[0] / "report")
    return Written(html(page), markdown(page))


# --- which cells count


def test_a_disturbed_seed_leaves_the_timings_of_all_arms_and_no_loss(new):
    section = only_section(paired(new(), {("muon", 2): FOREIGN}))
    assert timed_seeds(section) == [[1, 3], [1, 3]]
    assert [arm.spread("train_time_s").mean for arm in section.arms] == [2.0, 2.0]
    assert [arm.spread("val_loss_final").mean for arm in section.arms] == [2.0, 2.0]
    assert [list(arm.spread("host_rss_peak_mib").by_seed) for arm in section.arms] == [
        [1, 2, 3]
    ] * 2
    assert section.timing.clean
    assert section.timing.disturbed == {2: ("cpu_steal", "gpu_foreign_process")}


def test_unknown_and_false_are_not_disturbed(new):
    folder = paired(new(), {})
    folder.runs[0]["tainted"] = None
    section = only_section(folder)
    assert timed_seeds(section) == [[1, 2, 3], [1, 2, 3]]
    assert (section.timing.clean, section.timing.disturbed) == (True, {})


def test_an_undisturbed_repeat_keeps_its_seed_and_counts_alone(new):
    first, again = paired(new("a"), {("adamw", 1): "swap_used"}), new("b")
    again.ended(
        again.planned(optimizer="adamw", seed=1), train_time_s=7.0, val_loss_final=3.0, **LATER
    )
    section = only_section(first, again)
    adamw, muon = (arm.spread("train_time_s").by_seed for arm in section.arms)
    assert (adamw, muon) == ({1: 7.0, 2: 2.0, 3: 3.0}, {1: 1.0, 2: 2.0, 3: 3.0})
    assert section.arms[0].spread("val_loss_final").by_seed[1] == 1.0  # of the first run
    assert section.timing.disturbed == {}


def test_an_arm_without_an_ok_cell_at_a_seed_says_nothing_of_it(new):
    folder = paired(new(), {})
    folder.runs[-1] |= {"status": "crashed", "tainted": True, "taint_reasons": "swap_used"}
    section = only_section(folder)
    assert timed_seeds(section) == [[1, 2, 3], [1, 2]]
    assert section.timing.clean


def test_without_an_undisturbed_pair_all_are_used_and_none_is_clean(new):
    """No arm is disturbed throughout, but no seed is undisturbed in both."""
    tainted = {("adamw", 1): "swap_used", ("muon", 2): FOREIGN}
    section = only_section(paired(new(), tainted, seeds=(1, 2)))
    assert timed_seeds(section) == [[1, 2], [1, 2]]
    assert not section.timing.clean


@pytest.mark.slow
def test_an_arm_may_be_left_without_timings(new):
    """Its only seed is disturbed; the other arm has one more, which counts."""
    folder = paired(new(), {("adamw", 1): "swap_used"}, seeds=(1, 2))
    folder.runs[1]["status"] = "crashed"  # adamw, seed 2
    section = only_section(folder)
    assert timed_seeds(section) == [[], [2]]
    assert section.timing.clean
    (adamw, _), _ = written(folder).table("Summary by configuration")
    assert adamw["coverage"] == "1 of 2 seeds, 1 crashed, times of 0"
    assert (adamw["training (s)"], adamw["val. loss, final"]) == ("n/a", "1.0000 ± n/a")
    scene = scene_of(folder)
    assert len(arm_curves(scene, SECONDS)) == 1
    assert draw_all(scene)


def test_each_section_is_judged_by_itself(new):
    first, second = paired(new("a"), {("adamw", 1): "swap_used"}), paired(new("b"), {})
    for row in second.runs:
        row["env_id"] = "local:env2"
    assert [timed_seeds(section)[0] for section in sections_of(first, second)] == [
        [2, 3],
        [1, 2, 3],
    ]


def test_what_is_a_timing():
    """Whoever adds a metric must decide: all that is not named here is one."""
    lasting = re.compile("loss|perplexity|bits_per|passes_per|param_eff|_mib$|temp")
    assert [name for name in METRICS if not lasting.search(name)] == list(TIMINGS)


def test_curves_over_steps_keep_all_seeds_and_those_over_seconds_do_not(new):
    folder = paired(new(), {("muon", 2): FOREIGN})
    section = only_section(folder)
    for arm in section.arms:
        assert list(seed_lines(arm, steps)) == [1, 2, 3]
        assert list(seed_lines(arm, seconds)) == [1, 3]
    scene = scene_of(folder)
    for axis, n in ((STEPS, 3), (SECONDS, 2)):
        assert [len(curve.lines) for curve in arm_curves(scene, axis)] == [n, n]
    # Seed 1 ends after 1 s; seed 3's loss is then a third of the way from 4 to 3.
    at_time = at_equal_cost(section.arms, seconds)
    assert at_time.cost == 1.0
    assert [loss.mean for loss in at_time.losses] == [pytest.approx((1 + 4 - 1 / 3) / 2)] * 2


# --- how it is told


def test_the_summary_says_which_seeds_and_why(new):
    tainted = {("muon", 1): "swap_used", ("adamw", 2): FOREIGN, ("muon", 3): "swap_used"}
    page = written(paired(new(), tainted, seeds=(1, 2, 3, 4, 5)))
    (adamw, _), note = page.table("Summary by configuration")
    assert adamw["training (s)"] == "4.50 ± 0.71"
    assert adamw["coverage"] == "5 of 5 seeds, times of 2"
    assert adamw["val. loss, final"].startswith("3.0000 ± 1.5811")
    assert "†" not in "".join(adamw.values())
    assert (
        "disturbed from outside: seeds 1, 3 (swap\\_used); "
        "seed 2 (cpu\\_steal, gpu\\_foreign\\_process)." in note
    )


def test_disturbed_cells_are_marked_and_their_reasons_given_in_full(new):
    page = written(paired(new(), {("muon", 2): FOREIGN}))
    rows, note = page.table("Runs")
    (disturbed,) = [row for row in rows if "†" in "".join(row.values())]
    assert (disturbed["optimizer"], disturbed["seed"]) == ("muon", "2")
    assert (disturbed["training (s)"], disturbed["infer. p50 (ms)"]) == ("200†", "1.50†")
    assert disturbed["step p50 (ms)"] == "n/a"  # nothing to mark
    assert (disturbed["val. loss, final"], disturbed["host memory (MiB)"]) == ("2.0000", "300")
    assert note.startswith("†: something from outside")
    (cell,), _ = page.table("Disturbed from outside")
    assert (cell["optimizer"], cell["seed"]) == ("muon", "2")
    assert cell["in timing statistics"] == "left out"
    assert cell["reason"] == FOREIGN.replace("_", "\\_")


def test_an_undisturbed_report_says_nothing_of_all_this(new):
    page = written(paired(new(), {}))
    for text in (page.html, page.markdown):
        before = text.partition('<section id="definitions"')[0]
        before = before.partition("Definitions of the columns")[0].lower()
        assert "disturb" not in before
        assert "†" not in before


def test_without_clean_timings_all_are_shown_and_marked(new):
    page = written(paired(new(), {("adamw", seed): "cpu_steal 9%" for seed in (1, 2, 3)}))
    rows, note = page.table("Summary by configuration")
    assert [row["training (s)"] for row in rows] == ["200 ± 100†", "2.00 ± 1.00†"]
    assert [row["step p50 (ms)"] for row in rows] == ["n/a", "n/a"]
    assert not [row for row in rows if "†" in row["val. loss, final"]]
    assert "†: something from outside disturbed every seed" in note
    assert "seeds 1, 2, 3 (cpu\\_steal)" in note
    assert "do not tell which configuration is faster" in note
    rows, _ = page.table("Loss at equal cost")
    assert "after 1.00† s of training" in rows[0]
    rows, _ = page.table("Disturbed from outside")
    assert [row["in timing statistics"] for row in rows] == ["used, marked †"] * 3


@pytest.mark.parametrize(
    ("tainted", "expected"),
    [
        ({}, (3, 3, True, 3, 3)),
        ({("muon", 2): FOREIGN}, (3, 2, True, 2, 3)),
        ({("adamw", seed): "cpu_steal" for seed in (1, 2, 3)}, (3, 3, False, 3, 3)),
    ],
    ids=["none", "some", "all"],
)
def test_summary_csv_counts_the_seeds_of_the_timings(new, tainted, expected):
    counts = ("n_seeds", "n_seeds_timing", "timing_clean", "train_time_s_n", "val_loss_final_n")
    rows = list(summary_rows([only_section(paired(new(), tainted))]))
    assert [tuple(row[count] for count in counts) for row in rows] == [expected] * 2
    assert set(rows[0]) == set(SUMMARY)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("disturbed", "note"),
    [
        (
            {("muon", 2): FOREIGN, ("adamw", 3): "swap_used"},
            "Times are without seeds 2, 3: disturbed.",
        ),
        (
            {("muon", seed): FOREIGN for seed in (1, 2, 3)},
            "†: each seed was disturbed in some configuration: disturbed times are shown.",
        ),
    ],
    ids=["some", "all"],
)
def test_what_times_leave_out_is_told_once_a_page_beside_the_verdict(new, disturbed, note):
    page = written(paired(new(), disturbed), drawn=True)
    assert page.markdown.count(note) == 1
    assert page.html.count(note) == 1
    assert f"<li>{note}</li>" in page.html.partition("</header>")[0]
    assert not any("disturbed." in caption or "†" in caption for caption in page.captions)


@pytest.mark.slow
def test_captions_have_the_n_of_the_seeds_that_are_drawn(new):
    tainted = {("muon", 2): FOREIGN, ("adamw", 3): "swap_used"}
    captions = written(paired(new(), tainted), drawn=True).captions
    comparison, over_steps, over_tokens, over_seconds, over_flops, pareto = captions
    for caption in (comparison, pareto):
        assert "(n = 3, of times n = 1)" in caption
    for caption in (over_steps, over_tokens, over_flops):
        assert "(n = 3)" in caption
    assert "(n = 1)" in over_seconds


@pytest.mark.parametrize(("disturbed", "mark"), [((1,), ""), ((1, 2), "†")])
def test_pictures_mark_timings_that_are_not_clean(new, monkeypatch, disturbed, mark):
    tainted = {("adamw", seed): FOREIGN for seed in disturbed}
    scene, draw = scene_of(paired(new(), tainted, seeds=(1, 2))), Draw(monkeypatch)
    figure, _ = draw(scene, "comparison_graph")
    loss, training, memory, inference = map(beside, figure.axes)
    assert (loss[0], memory[0], inference[0]) == ("1.5000", "300", f"1.50{mark}")
    assert training[1] == ("1.50†" if mark else "2.00")
    marked = {"loss_steps": "", "loss_seconds": mark, "pareto": mark, "forest": ""}
    for name, expected in marked.items():
        figure, _ = draw(scene, name)
        assert any("†" in text for text, _ in texts_of(figure)) == bool(expected), name


# --- the notes at the top


def told(folder: Results) -> list[str]:
    """With the column taint_unchecked, which older files lack."""
    folder.write()
    columns = dict.fromkeys([*RUN_COLUMNS, "taint_unchecked"])
    write_table(folder.path / "runs.csv", columns, folder.runs)
    merged = merge([folder.path])
    return notes(merged)


def test_the_note_gathers_names_without_percentages(new):
    tainted = {("muon", 2): FOREIGN, ("adamw", 1): "cpu_steal 88%", ("adamw", 2): ""}
    assert told(paired(new(), tainted)) == [
        "Something from outside disturbed the timings of 3 runs (cpu_steal, gpu_foreign_process)."
    ]


def test_checks_that_could_not_be_made_are_told_of_ok_cells(new):
    folder = paired(new(), {})
    for row in folder.runs[:2]:
        row["taint_unchecked"] = "gpu_foreign_process (NVML lists no process); swap_used"
    folder.runs[2]["taint_unchecked"] = "swap_used (no psutil figure; see env.json)"
    folder.runs[3] |= {"taint_unchecked": "cpu_steal", "status": "crashed"}
    assert told(folder) == [
        "Some checks for disturbance from outside could not be made: gpu_foreign_process on "
        "2 runs, swap_used on 3 runs."
    ]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ("", []),
        ("cpu_steal", ["cpu_steal"]),
        ("cpu_steal 3.1%; swap_used", ["cpu_steal", "swap_used"]),
        ("cpu_steal 3.1% (a; b); swap_used (c)", ["cpu_steal", "swap_used"]),
        ("gpu_memory_inconsistent (NVML 300 MiB below 400 MiB)", ["gpu_memory_inconsistent"]),
        ("another process on its CPU", ["another process on its CPU"]),
    ],
)
def test_names_of_reasons(items, expected):
    assert names(items) == expected


# --- hostile texts

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    '"><b onclick="x">',
    "a | b",
    "`rm -rf`",
    "[here](http://x)",
    "](http://x)",
    "=cmd()",
    "{{ 7 * 7 }}",
    "*_#~ $x$ @all",
    "two\nlines\r\nof\rtext",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_reasons_and_names_stay_text(new, text):
    """In each place where a text that this program did not write reaches the page."""
    harmless, other = page_of([hostile(new("a"), "harmless")]), page_of([hostile(new("b"), text)])
    tags = [Tags(page.html) for page in (harmless, other)]
    kinds = [[(tag, sorted(attributes)) for tag, attributes in page.tags] for page in tags]
    assert kinds[0] == kinds[1]  # no element and no attribute more
    shown, expected = " ".join(tags[1].text.split()), " ".join(text.split())
    assert shown.count(expected) >= tags[0].text.count("harmless") >= 10
    before, after = (page.markdown.splitlines() for page in (harmless, other))
    assert len(before) == len(after)
    special = re.compile(r"(?<!\\)[|`*_\[\]~#$@{}]|<")  # what is not escaped
    for one, another in zip(before, after, strict=True):
        assert special.findall(one) == special.findall(another), another


def test_hostile_names_reach_the_pictures_as_text(new):
    text = "".join(HOSTILE)
    folder = hostile(new(), text)
    build_report([folder], folder / "report")
    assert (folder / "report" / "comparison_graph.png").stat().st_size > 0


def hostile(folder: Results, text: str) -> Path:
    """A folder with this text as name, corpus, machine and each kind of reason.

    Every field is in quotes, in which a file can hold a carriage return; a line feed ends a row
    whatever is around it.
    """
    text = text.replace("\n", " ")
    told = {"corpus": text, "host_cpu_model": text, "taint_unchecked": text}
    folder.ended(folder.planned(model=text), tainted="true", taint_reasons=text, **told)
    folder.ended(folder.planned(model=text, seed=2), tainted="false", **told)
    run_id = folder.planned(optimizer=text, seed=3)
    folder.ended(run_id, status="crashed", reason=text, stage=text, taint_reasons=text)
    for planned in folder.plan:
        planned |= {"name": text, "selected": "true"}
    folder.path.mkdir()
    for name, rows in (("plan", folder.plan), ("runs", folder.runs)):
        columns = dict.fromkeys(key for row in rows for key in row)
        with (folder.path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n", quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(rows)
    return folder.path
