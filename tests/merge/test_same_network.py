"""One network under two optimizers has one inference time, or the report says what it has."""

import pytest

from bench.merge.same_network import note
from bench.report.page.tables import summary_table
from tests.builders.results import Results, sections_of


def arms(path, times: dict[tuple[str, str], list[float]], active=2_000_000):
    folder = Results(path)
    for (model, optimizer), by_seed in times.items():
        for seed, time in enumerate(by_seed):
            run_id = folder.planned(model, optimizer, seed)
            folder.ended(run_id, infer_time_ms_p50=time, n_params_active=active)
    (section,) = sections_of(folder)
    return section


def test_a_difference_that_seeds_do_not_explain_is_told(tmp_path):
    times = {("gpt", "adamw"): [6.2, 6.3, 6.34], ("gpt", "muon"): [4.4, 4.5, 4.57]}
    section = arms(tmp_path, times)
    assert note(section.arms) == (
        "‡: gpt is the same network under muon and adamw, and its inference times differ by 40 %, "
        "which is more than twice the larger standard deviation over seeds: smaller differences "
        "between models tell nothing."
    )
    table = summary_table(section)
    assert note(section.arms) in str(table.note)
    marked = [heading.text for heading in table.headings if "‡" in heading.text]
    assert marked == ["infer. p50 (ms) ‡"]


def test_a_single_seed_explains_nothing(tmp_path):
    assert "by 10 %" in note(arms(tmp_path, {("gpt", "adamw"): [5.5], ("gpt", "muon"): [5.0]}).arms)


@pytest.mark.parametrize(
    ("times", "active"),
    [
        ({("gpt", "adamw"): [4.0, 5.0], ("gpt", "muon"): [5.0, 6.0]}, 2_000_000),  # seeds explain
        ({("gpt", "adamw"): [4.0, 4.1], ("kimi", "muon"): [6.0, 6.1]}, 2_000_000),  # two networks
        ({("gpt", "adamw"): [4.0, 4.1], ("gpt", "muon"): [6.0, 6.1]}, 1_000_000),  # sparse
        ({("gpt", "adamw"): [4.0, 4.1], ("gpt", "muon"): [6.0, 6.1]}, None),  # not known
        ({("gpt", "adamw"): [4.0, 4.1], ("gpt", "muon"): [None, None]}, 2_000_000),
    ],
)
def test_nothing_is_told_otherwise(tmp_path, times, active):
    section = arms(tmp_path, times, active)
    assert note(section.arms) == ""
    assert "‡" not in str(summary_table(section))
