"""check, plan, tune and ab of programs, by the commands as they are typed."""

import json
import time
from pathlib import Path

import pytest
import yaml

from bench.compare.ab import pinned
from bench.matrix.expansion import load_matrix
from tests.builders.program_matrices import SCRIPT, write_program
from tests.builders.program_runs import Said, Scripted, command

SEEDED = """
import random, sys
random.seed(int(sys.argv[2]))
for step in range(1, 4):
    print("step", step, "loss", random.random())
print("val", random.random())
"""


def check(runs: Scripted) -> Said:
    return command("check", runs.write(), "--runtime", "local")


def problems(said: Said) -> list[str]:
    return [line for line in said.out.splitlines() if line.startswith("problem")]


# --- check --------------------------------------------------------------------------------------


def test_a_check_shows_what_each_pattern_reads_and_that_seeds_differ(tmp_path):
    said = check(Scripted(tmp_path, SEEDED, optimizers="[one, two]"))
    assert said.code == 0, said.out + said.err
    assert problems(said) == []
    for optimizer in ("one", "two"):
        lines = [line for line in said.out.splitlines() if f"small + {optimizer}: " in line]
        assert [line.startswith("ok ") for line in lines] == [True] * 4
        assert f"start: python main.py {optimizer} 1" in lines[0]
        assert r"pattern step (?P<step>\d+) loss (?P<loss>\S+): reads step 1, loss 0." in lines[1]
        assert r"pattern val (?P<val_loss>\S+): reads val_loss 0." in lines[2]
        assert "seeds 1 and 2 print different losses" in lines[3]
    assert {file.name for file in tmp_path.iterdir()} == {"prog", "runs.yaml"}  # it leaves nothing


@pytest.mark.parametrize("seeds", ["[1, 2]", "[5]"])
def test_a_seed_that_reaches_nothing_is_told_with_its_remedy(tmp_path, seeds):
    script = SEEDED.replace("int(sys.argv[2])", "1337")
    said = check(Scripted(tmp_path, script, seeds=seeds))
    assert said.code == 1
    (line,) = problems(said)
    both = "1 and 2" if seeds == "[1, 2]" else "5 and 6"
    assert f"seeds {both} print the same 4 losses, to the last digit" in line
    assert "Put {seed} in place of its own by program.replace" in line


def test_replicates_that_are_one_run_are_told(tmp_path):
    script = SEEDED.replace("int(sys.argv[2])", "1337")
    runs = Scripted(tmp_path, script, program="seeds: replicates", arguments='"{optimizer}"')
    said = check(runs)
    assert said.code == 1
    (line,) = problems(said)
    assert "it does not seed itself anew. Reach its seed, by program.replace or an arg" in line
    runs.script = SEEDED.replace("int(sys.argv[2])", "")
    assert check(runs).code == 0


FROM_ZERO = """
import random, sys, time
random.seed(int(sys.argv[2]))
print("val 10.8258", flush=True)
for step in range(1, 9):
    print("step", step, "loss", 10.8258 if step < 3 else random.random(), flush=True)
    time.sleep(0.05)
"""


def test_seeds_may_be_alike_before_training(tmp_path):
    """A last layer that begins at zero gives every seed the logarithm of the vocabulary's size."""
    said = check(Scripted(tmp_path, FROM_ZERO))
    assert said.code == 0, said.out


def test_a_pattern_that_meets_nothing_is_told_with_what_was_printed(tmp_path):
    said = check(Scripted(tmp_path, SEEDED.replace('"val"', '"validation"')))
    assert said.code == 1
    (line,) = problems(said)
    assert r"pattern val (?P<val_loss>\S+): met nothing in 4 lines; it printed: step 1 loss" in line


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("exit('no such option --x')", "python main.py plain 1 ends with 1; it printed: no such"),
        ("import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
    ],
)
def test_a_program_that_ends_badly_is_told_with_its_words(tmp_path, script, says):
    said = check(Scripted(tmp_path, script))
    assert said.code == 1
    assert says in problems(said)[0]


def test_a_program_that_is_not_there_is_told(tmp_path):
    runs = Scripted(tmp_path, SEEDED)
    text = runs.write().read_text().replace("[python, main.py,", "[torchrunn, main.py,")
    runs.matrix.write_text(text)
    said = command("check", runs.matrix, "--runtime", "local")
    assert said.code == 1
    (line,) = problems(said)
    assert "start: torchrunn cannot be started: " in line


def test_a_check_of_a_long_program_ends_when_all_was_read(tmp_path):
    endless = SEEDED + "sys.stdout.flush()\nimport time\ntime.sleep(600)\n"
    before = time.monotonic()
    said = check(Scripted(tmp_path, endless))
    assert said.code == 0, said.out
    assert time.monotonic() - before < 60


@pytest.mark.slow
def test_a_check_takes_seconds_and_no_more_than_the_limit(tmp_path):
    endless = "import time\nprint('step 1 loss 2', flush=True)\ntime.sleep(600)\n"
    before = time.monotonic()
    said = check(Scripted(tmp_path, endless, timeout_s=3))
    assert said.code == 1
    assert time.monotonic() - before < 45
    assert "met nothing in 1 lines; it printed: step 1 loss 2" in said.out


def test_runs_of_one_process_are_checked_once(tmp_path):
    script = SEEDED.replace("int(sys.argv[2])", "").replace("for step", "print('run')\nfor step")
    runs = Scripted(
        tmp_path, script, "seeds: replicates\ntrials: '^run'", arguments='"{optimizer}"'
    )
    said = check(runs)
    assert said.code == 0, said.out
    assert "seeds" not in said.out.partition("runtime")[2]


def test_a_checked_program_cannot_touch_its_own_files(tmp_path):
    script = "open('main.py', 'w').write('gone')\n" + SEEDED
    runs = Scripted(tmp_path, script)
    assert check(runs).code == 0
    assert (tmp_path / "prog" / "main.py").read_text() == script


# --- plan ---------------------------------------------------------------------------------------


def test_a_plan_tells_the_program_its_data_and_its_cells(tmp_path):
    file = write_program(tmp_path)
    said = command("plan", file, "--out", tmp_path / "out", "--runtime", "local")
    assert said.code == 0, said.err
    assert "prog, 1 file; data/text, 1 file, 0.0 MiB" in said.out
    assert "4 cells, 4 selected, 0 of them done" in said.out
    for cell in load_matrix(file).cells:
        assert cell.spec.run_id in said.out


def test_a_wrong_matrix_is_told_by_every_command(tmp_path):
    file = write_program(tmp_path, ("{train.py: {", "{trian.py: {"))
    for name in ("plan", "check", "run"):
        said = command(name, file, "--runtime", "local")
        assert said.code == 2
        assert "program.replace.trian.py: is no file of prog. Did you mean 'train.py'?" in said.err


def test_the_program_of_the_mistakes_runs_where_there_is_none(tmp_path):
    """So that the matrix from which each of them differs in one line is sound indeed."""
    file, out = write_program(tmp_path), tmp_path / "out"
    said = command("run", file, "--out", out, "--runtime", "local", "--only", "seed=1")
    assert said.code == 0, said.out + said.err
    assert "2 of 2" in said.out
    for left in out.glob("cells/*/out/model.pt"):
        assert left.read_text() == "plain"
    assert (tmp_path / "prog" / "train.py").read_text() == SCRIPT


# --- tune ---------------------------------------------------------------------------------------

TUNED = """
import sys
lr, seed = float(sys.argv[1]), int(sys.argv[2])
print("val", 5 - lr, "acc", lr * (0.9 if lr < 3 else 0.1) + seed / 1e6)
"""
TUNE = "tune: {trials: 4, seeds: [7], metric: acc, space: {lr: [1, 2, 3, 4]}, sampler: grid}\n"


@pytest.mark.parametrize(("better", "best"), [("higher", 2.0), ("lower", 3.0)])
def test_tuning_over_a_placeholder_is_by_what_is_better_of_a_metric(tmp_path, better, best):
    """0.9, 1.8, 0.3, 0.4 for 1 to 4: where lower is better, 3; the untuned 1 is one of them."""
    runs = Scripted(
        tmp_path,
        TUNED,
        program=f"metrics: {{acc: {{better: {better}}}}}",
        arguments='"{lr}", "{seed}"',
        more="optimizers: {plain: {lr: 1}}\n" + TUNE,
    )
    text = runs.write().read_text()
    text = text.replace(
        "- 'val (?P<val_loss>\\S+)'", "- 'val (?P<val_loss>\\S+) acc (?P<acc>\\S+)'"
    )
    text = text.replace("    - 'step (?P<step>\\d+) loss (?P<loss>\\S+)'\n", "")
    runs.matrix.write_text(text)
    said = command("run", runs.matrix, "--out", runs.out, "--runtime", "local", "--jobs", "1")
    assert said.code == 0, said.out + said.err
    rows = runs.rows()
    trials = {
        row["trial"]: json.loads(row["metrics"])["acc"] for row in rows if row["part"] == "trial"
    }
    assert len(trials) == 4
    tuned = [row for row in rows if row["part"] == "tuned"]
    assert [row["seed"] for row in tuned] == ["1", "2"]
    assert {json.loads(row["tuned_settings"])["lr"] for row in tuned} == {best}
    for row in tuned:
        expected = best * (0.9 if best < 3 else 0.1) + int(row["seed"]) / 1e6
        assert json.loads(row["metrics"])["acc"] == pytest.approx(expected)


BY_NAME = """
import sys
from pathlib import Path
seed, lr = int(sys.argv[1]), float(sys.argv[2])
print("val", 5 - lr + seed / 1000, Path(__file__).name)
"""


def test_a_trial_is_started_by_the_name_of_its_optimizer(tmp_path):
    """Where each optimizer has a script of its own, trials have none."""
    runs = Scripted(
        tmp_path,
        BY_NAME,
        arguments='"{seed}", "{lr}"',
        optimizers="[adam, muon]",
        seeds="[1]",
        more="optimizers: {adam: {lr: 1}, muon: {lr: 1}}\n" + TUNE.replace("acc", "val_loss_final"),
    )
    file = runs.write()
    text = file.read_text().replace("main.py", '"main_{optimizer}.py"')
    text = text.replace("    - 'step (?P<step>\\d+) loss (?P<loss>\\S+)'\n", "")
    file.write_text(text)
    for optimizer in ("adam", "muon"):
        script = tmp_path / "prog" / f"main_{optimizer}.py"
        script.write_text((tmp_path / "prog" / "main.py").read_text())
    (tmp_path / "prog" / "main.py").unlink()
    said = command("run", file, "--out", runs.out, "--runtime", "local", "--jobs", "1")
    assert said.code == 0, said.out + said.err
    rows = runs.rows()
    for row in rows:
        log = (runs.out / row["log_path"]).read_text()
        assert f"main_{(row['tuned_optimizer'] or row['optimizer'])}.py" in log
    tuned = {row["optimizer"]: row["tuned_settings"] for row in rows if row["part"] == "tuned"}
    assert tuned == {"adam-tuned": '{"lr":4}', "muon-tuned": '{"lr":4}'}


def test_the_best_trial_may_be_the_untuned_one(tmp_path):
    """Then the tuned cells are the untuned ones under another name, and run no second time."""
    runs = Scripted(
        tmp_path,
        "import sys\nprint('val', float(sys.argv[1]) + int(sys.argv[2]) / 1000)",
        arguments='"{lr}", "{seed}", "{optimizer}"',
        seeds="[1]",
        more="optimizers: {plain: {lr: 1}}\n" + TUNE.replace("acc", "val_loss_final"),
    )
    text = runs.write().read_text()
    text = text.replace("    - 'step (?P<step>\\d+) loss (?P<loss>\\S+)'\n", "")
    runs.matrix.write_text(text)
    said = command("run", runs.matrix, "--out", runs.out, "--runtime", "local", "--jobs", "1")
    assert said.code == 0, said.out + said.err
    assert sorted(row["part"] for row in runs.rows()) == ["", "trial", "trial", "trial", "trial"]


def test_trials_with_a_rounded_figure_in_common_are_no_one_trial(tmp_path):
    """Nor is it said that the program does not hold what is tuned."""
    runs = Scripted(
        tmp_path,
        "import sys\nprint('val', 1.5)",
        arguments='"{lr}", "{seed}"',
        seeds="[1]",
        more="optimizers: {plain: {lr: 1}}\n"
        + TUNE.replace("acc", "val_loss_final")
        .replace("trials: 4", "trials: 2")
        .replace(", 3, 4", ""),
    )
    text = runs.write().read_text()
    text = text.replace("    - 'step (?P<step>\\d+) loss (?P<loss>\\S+)'\n", "")
    runs.matrix.write_text(text)
    said = command("run", runs.matrix, "--out", runs.out, "--runtime", "local", "--jobs", "1")
    assert said.code == 0, said.out + said.err
    assert {row["status"] for row in runs.rows()} == {"ok"}
    assert [row["tuned_settings"] for row in runs.rows() if row["part"] == "trial"] == [
        '{"lr":1}',
        '{"lr":2}',
    ]


# --- ab -----------------------------------------------------------------------------------------


def test_a_pinned_program_means_the_same_from_any_folder(tmp_path):
    tune = "tune: {trials: 2, seeds: [9], metric: val_bpb, space: {lr: [0.1, 0.2]}}\n"
    file = write_program(tmp_path, ("--out={out}", "--out={out}/{optimizer}"))
    file.write_text(file.read_text() + tune)
    elsewhere = tmp_path / "deep" / "er" / "pinned.yaml"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_text(pinned(file, None))
    content = yaml.safe_load(elsewhere.read_text())
    assert content["program"]["path"] == str(tmp_path / "prog")
    assert content["program"]["data"] == {"text": str(tmp_path / "texts")}
    assert not {"claim", "tune", "data"} & content.keys()
    asked = [cell.spec.run_id for cell in load_matrix(file).cells if not cell.tried]
    assert [cell.spec.run_id for cell in load_matrix(elsewhere).cells] == asked


def test_a_value_called_path_is_no_path(tmp_path):
    more = (
        ("fast: {lr: 0.5}", "fast: {lr: 0.5, path: x}"),
        ("slow: {lr: 0.25}", "slow: {lr: 0.25, path: z}"),
    )
    file = write_program(tmp_path, *more, ('"--out={out}"', '"--out={out}", "{path}"'))
    content = yaml.safe_load(pinned(file, None))
    assert content["optimizers"]["fast"]["path"] == "x"


def test_pairs_of_a_program_are_of_the_seeds_asked_for(tmp_path):
    place = tmp_path / "pinned.yaml"
    place.write_text(pinned(write_program(tmp_path), 3))
    assert sorted(cell.spec.seed for cell in load_matrix(place).cells) == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("home", ["~/prog", "$HOME/prog"])
def test_a_home_is_that_of_who_asks(tmp_path, monkeypatch, home):
    monkeypatch.setenv("HOME", str(tmp_path))
    file = write_program(tmp_path, ("./prog", home))
    if home[0] == "$":  # no shell reads it
        with pytest.raises(Exception, match="is not there"):
            pinned(file, None)
    else:
        assert yaml.safe_load(pinned(file, None))["program"]["path"] == str(Path.home() / "prog")
