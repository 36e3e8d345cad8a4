"""A column is an entry in columns.py, and nothing else: every user of columns asks there."""

import json
import os
import shutil
import subprocess
import sys
import typing
from types import SimpleNamespace

from bench.matrix.tune_forms import Tune
from bench.records.columns import COLUMNS, LOSSES, METRICS, RUN_COLUMNS, SHOWN, TIMINGS
from bench.records.kinds import NUMBER, TEXT
from tests.builders.shared import ROOT

ENTRY = '    "noise_db": Column("how loud the machine was", TIMING, heading="noise (dB)"),\n'
ASKED = """
import json, sys
from pathlib import Path
from bench.compare.rules import Rule, parse_rules
from bench.merge.frames import load
from bench.report.page.tables import definitions_table
from tests.builders.results import Results, two_arms

folder = two_arms(Results(Path(sys.argv[1])), noise_db=31.5)
folder.ended(folder.planned(seed=3), noise_db="loud")
path = folder.write()
import warnings
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    frames = load(path)
print(json.dumps({
    "type": str(frames.cells["noise_db"].dtype),
    "mean": frames.summary["noise_db_mean"].tolist(),
    "damage": [str(warning.message) for warning in told],
    "rule": str(*parse_rules(["noise_db>5%"])),
    "defined": [row for row in definitions_table().rows if "noise_db" in str(row)] != [],
}))
"""


def test_an_entry_is_all_that_a_new_column_needs(tmp_path):
    shutil.copytree(
        ROOT / "bench", tmp_path / "bench", ignore=shutil.ignore_patterns("__pycache__")
    )
    file = tmp_path / "bench" / "records" / "columns.py"
    first = "COLUMNS: dict[str, Column] = {\n"
    file.write_text(file.read_text().replace(first, first + ENTRY))
    ran = subprocess.run(
        [sys.executable, "-c", ASKED, str(tmp_path / "results")],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    found = SimpleNamespace(**json.loads(ran.stdout))
    assert found.type == "float64"
    assert found.mean == [31.5, 31.5]
    assert "noise_db is 'loud', not a number" in " ".join(found.damage)
    assert found.rule == "noise_db>5%"
    assert found.defined


def test_every_figure_is_a_number_in_one_group():
    assert {COLUMNS[name].kind.dtype for name in METRICS} == {NUMBER.dtype}
    assert not set(LOSSES) & set(TIMINGS)
    assert set(LOSSES) | set(TIMINGS) < set(METRICS) < set(RUN_COLUMNS)
    assert all(COLUMNS[name].kind != TEXT for name in SHOWN)


def test_whatever_a_claim_or_a_tuning_may_be_about_has_words():
    tuned_on = typing.get_args(Tune.model_fields["metric"].annotation)
    assert set(tuned_on) < set(METRICS)
    assert {name for name in METRICS if not COLUMNS[name].title} == set()


def test_a_unit_is_that_of_the_name():
    units = {"_s": "s", "_ms": "ms", "_mib": "MiB", "_j": "J", "_w": "W", "_mhz": "MHz"}
    units |= {"_pct": "%", "_c": "°C"}
    told = {name: COLUMNS[name].unit for name in METRICS if name != "tokens_per_s"}
    for name, unit in told.items():
        ends = [units[end] for end in units if name.endswith(end) or f"{end}_p" in name]
        assert unit in (ends or ["", "nats per token"]), name
