"""What a report merges into one section, and what it shows apart."""

import shutil

import pytest

from bench.merge.coverage import notes, sentence
from bench.merge.frames import summary_rows
from bench.merge.merging import merge
from bench.report.page.facts import pairing
from bench.report.plots.style import COLOURS, styles
from bench.report.titles import titles
from tests.builders.results import sections_of, two_arms

# --- several folders


def test_a_folder_named_twice_and_its_copy_count_once(new, tmp_path):
    folder = two_arms(new("a"))
    folder.write()
    shutil.copytree(folder.path, tmp_path / "copy")
    merged = merge([folder.path, folder.path / ".", tmp_path / "copy"])
    assert [source.name for source in merged.sources] == ["a", "copy"]
    assert sentence(cell.status for cell in merged.cells) == "4 of 4 runs ok"
    (note,) = notes(merged)
    assert note.startswith("copy: 4 runs lie in another folder as well")


@pytest.mark.parametrize("older_first", [True, False])
def test_an_older_copy_does_not_bring_back_a_superseded_attempt(new, tmp_path, older_first):
    folder = new("a")
    run_id = folder.planned()
    folder.ended(run_id, attempt=1, status="interrupted")
    shutil.copytree(folder.write(), tmp_path / "older")
    folder.ended(run_id, attempt=2, val_loss_final=1.0)
    folder.write()
    paths = [tmp_path / "older", folder.path]
    merged = merge(paths if older_first else paths[::-1])
    assert [cell.number("val_loss_final") for cell in merged.cells] == [1.0]


def test_shards_of_a_matrix_on_one_machine_are_one_section(new):
    parts = [new("a"), new("b")]
    for part, folder in enumerate(parts):
        for seed in (1, 2):
            run_id = folder.planned(seed=seed, selected=seed == part + 1)
            if seed == part + 1:
                folder.ended(run_id, val_loss_final=float(seed))
    (section,) = sections_of(*parts)
    assert (section.arms[0].n_seeds, len(section.arms[0].seeds)) == (2, 2)
    merged = merge([part.path for part in parts])
    assert sentence(cell.status for cell in merged.cells) == "2 of 2 runs ok"


# --- unlike things are not merged


@pytest.mark.parametrize(
    "difference",
    [
        {"host_id": "host2"},
        {"env_id": "local:env2"},
        {"code_sha256": "code2"},
        {"corpus_sha256": "text2"},
        {"steps": 200, "tokens": 2000},
        {"tokens": 2000},
        {"eval_protocol": "sampled"},
        {"threads": 4},
        {"gpu_name": "another GPU"},
    ],
    ids=lambda difference: next(iter(difference)),
)
def test_rows_that_differ_are_shown_apart(new, difference):
    first, second = new("a"), new("b")
    first.cell(val_loss_final=1.0)
    second.cell(val_loss_final=3.0, **difference)
    found = sections_of(first, second)
    assert [section.arms[0].spread("val_loss_final").mean for section in found] == [1.0, 3.0]
    assert len(set(titles(found))) == 2


def test_devices_are_shown_apart_and_an_arm_keeps_its_look(new):
    folder = new()
    for device in ("cpu", "cuda"):
        for optimizer in ("adamw", "muon") if device == "cpu" else ("muon", "adamw"):
            folder.ended(folder.planned(optimizer=optimizer, device=device))
    found = sections_of(folder)
    assert [section.key.device for section in found] == ["cpu", "cuda"]
    assert [arm.label for arm in found[1].arms] == ["gpt + muon", "gpt + adamw"]
    looks = styles(arm.label for section in found for arm in section.arms)
    assert [looks[arm.label].colour for arm in found[0].arms] == list(COLOURS[:2])
    assert len(looks) == 2


def test_a_title_says_in_words_what_differs(new):
    first, second = new("a"), new("b")
    first.cell()
    second.cell(env_id="sha256:0123456789", runtime="docker")
    assert titles(sections_of(first, second)) == [
        "A processor, cpu, local runtime",
        "A processor, cpu, docker runtime",
    ]
    second.runs[0] |= {"runtime": "local"}
    assert titles(sections_of(first, second))[1] == (
        "A processor, cpu, local runtime, environment 01234567"
    )


def test_arms_of_one_name_are_told_apart_by_their_identity(new):
    folder = new()
    for arm in ("aaaa11112222", "bbbb11112222"):
        folder.ended(folder.planned(arm=arm))
    folder.ended(folder.planned(optimizer="muon"))
    (section,) = sections_of(folder)
    assert [arm.label for arm in section.arms] == [
        "gpt + adamw (aaaa)",
        "gpt + adamw (bbbb)",
        "gpt + muon",
    ]


def test_a_failed_row_stays_with_its_arm_though_it_lacks_its_settings(new):
    folder = new()
    folder.cell(seed=1)
    folder.cell(seed=2, status="diverged", steps=7)
    folder.cell(seed=3, status="skipped", env_id="")
    folder.planned(seed=4)
    folder.cell(seed=5, status="crashed", env_id="local:env2")
    (section,) = sections_of(folder)
    (arm,) = section.arms
    assert dict(arm.not_ok) == {"diverged": 1, "skipped": 1, "open": 2}  # one crashed elsewhere
    assert (arm.n_seeds, len(arm.seeds)) == (1, 5)


def test_an_arm_that_never_ended_ok_keeps_its_row(new):
    folder = new()
    folder.cell()
    folder.ended(folder.planned(optimizer="muon"), status="oom", n_params=5)
    (section,) = sections_of(folder)
    rows = list(summary_rows([section]))
    assert [(row["optimizer"], row["n_seeds"], row["n_params"]) for row in rows] == [
        ("adamw", 1, 2_000_000),
        ("muon", 0, 5),
    ]
    assert rows[1]["val_loss_final_mean"] is None


def test_pairing_is_checked(new):
    folder = two_arms(new())
    (section,) = sections_of(folder)
    assert "NOT" not in pairing(section.ok)
    folder.runs[-1]["data_order_hash"] = "other"
    (section,) = sections_of(folder)
    assert "NOT true that all configurations of a seed saw the same batches" in pairing(section.ok)
    assert "seed 2 differ" in pairing(section.ok)
    folder.runs[-1]["data_order_hash"] = None
    (section,) = sections_of(folder)
    assert "not known whether all configurations" in pairing(section.ok)
