"""Losses on two texts, or of two tokenisers, are never set against each other, whatever is asked.

A perplexity is of a token, and another tokeniser's token is another piece of text. Rows of real
runs, of one matrix with another text: all that differs is what identity makes of it.
"""

from functools import partial
from pathlib import Path

import pytest

from bench.compare.gate import make_gate
from bench.compare.judge import GateStatus
from bench.compare.pairing import join, read_version
from bench.launch.job import Environment
from bench.merge.merging import merge
from bench.merge.sections import make_sections
from bench.records.columns import LOSSES
from bench.records.folder import ResultsFolder
from bench.report.site.facts import series_of
from tests.builders.fake_launcher import Bench, FakeLauncher

MATRIX = """
name: tiny
data: {{corpus: {text}}}
train: {{steps: 4, block_size: 8}}
matrix: {{model: [nanogpt], optimizer: [adamw, sgd], device: [cpu], seed: [1, 2]}}
"""
FIGURES = {"perplexity": 3.5, "bits_per_char": 1.8, "train_loss_final": 1.2, "val_loss_best": 1.25}


def of_image(image_id: str, device: str) -> Environment:
    return Environment("env-1", image_id)


@pytest.fixture
def two(tmp_path, monkeypatch) -> list[Path]:
    """Results folders of one matrix on two texts of the same name."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    folders = []
    for name, text in (("one", "abcdefghij" * 20), ("other", "jihgfedcba" * 20)):
        place = tmp_path / name
        place.mkdir()
        (place / "text.txt").write_text(text)
        (place / "tiny.yaml").write_text(MATRIX.format(text=place / "text.txt"))
        run = Bench(place / "tiny.yaml", ResultsFolder(place / "results"), FakeLauncher())
        run.launcher.row = FIGURES
        monkeypatch.setattr(run.launcher, "environment", partial(of_image, f"sha256:{name}"))
        with run.folder.locked():
            matrix = run.matrix_file.read_text()
            chosen = {cell.spec.run_id for cell in run.cells()}
            run.folder.write_plan("tiny", matrix, run.cells(), chosen)
        run.run()
        folders.append(run.folder.path)
    return folders


def test_they_have_no_arm_in_common(two):
    joined = join(*map(read_version, two))
    assert joined.arms == ()
    assert len(joined.only_base) == len(joined.only_new) == 2


@pytest.mark.parametrize("across", [None, "image_id"])
def test_a_gate_on_a_loss_compares_nothing(two, across):
    """Nor does a comparison across machines, which needs no pairs."""
    gate = make_gate(["perplexity>1"], "pass", "drop", "text", across=across)
    compared = gate.compare(*two)
    assert compared.arms == ()
    assert compared.outcome is GateStatus.UNDECIDED


def test_in_a_report_they_stand_in_sections_of_their_own(two):
    sections = make_sections(merge(two))
    assert len(sections) == 2
    for section in sections:
        assert len(section.values("corpus_sha256")) == 1
        assert all(len(arm.spread(loss).by_seed) <= 2 for arm in section.arms for loss in LOSSES)


def test_a_site_follows_each_by_itself(two):
    one, other = ({series_of(cell) for cell in merge([folder]).cells} for folder in two)
    assert len(one) == len(other) == 2
    assert not one & other
