"""What a person sees while cells run, whatever a worker says."""

import io

import pytest
from rich.console import Console

from bench.matrix.expansion import load_matrix
from bench.run.progress import LARGE, LiveDisplay, name, reading_tokens, summary


@pytest.mark.parametrize("stage", ["[/b]", "[red]", "\\", "train", None, 7])
def test_no_word_of_a_worker_breaks_the_display(tiny_matrix, stage):
    cells = load_matrix(tiny_matrix).cells[:2]
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    display = LiveDisplay(console)
    with display.open(cells, left_s=None):
        for cell in cells:
            display.started(cell)
        display.event(cells[0], {"stage": stage, "step": 1, "loss": 2.5})
        display.ended(cells[1], {"status": "crashed", "reason": stage, "stage": stage}, None)
        display.bars.refresh()
    assert "2.5000" in console.file.getvalue()


def shown(display):
    return [(task.description, task.fields["detail"]) for task in display.bars.tasks[1:]]


def test_every_running_cell_is_shown_from_its_launch_to_its_end(tiny_matrix):
    cells = load_matrix(tiny_matrix).cells[:2]
    display = LiveDisplay(Console(file=io.StringIO(), force_terminal=True, width=100))
    crashed = {"status": "crashed", "reason": "ended by SIGSEGV"}
    first, second = map(name, cells)
    with display.open(cells, left_s=None):
        for cell in cells:
            display.started(cell)
        assert shown(display) == [(first, "starting"), (second, "starting")]
        display.event(cells[1], {"stage": "train", "step": 2})
        assert shown(display) == [(first, "starting"), (second, "train")]
        display.again(cells[1], crashed)
        display.started(cells[1])
        assert shown(display) == [(first, "starting"), (second, "starting")]
        display.ended(cells[0], crashed, None)
        assert shown(display) == [(second, "starting")]


@pytest.mark.parametrize(
    ("known", "told"),
    [
        (
            {"val_loss_final": 1.25, "train_loss_final": 2, "train_time_s": 75.0}
            | {"step_time_ms_p50": 2.5},
            "val loss 1.2500, train 1 min 15 s, step 2.50 ms, wall 1 min 20 s",
        ),
        ({"metrics": '{"val_bpb": 0.91234567}'}, "val_bpb 0.91235, wall 1 min 20 s"),
        ({"val_loss_final": None, "train_loss_final": 2.0}, "train loss 2.0000, wall 1 min 20 s"),
        ({}, "wall 1 min 20 s"),
    ],
)
def test_what_is_not_known_of_a_run_is_not_told(known, told):
    """Of a program it may be anything."""
    assert summary({"status": "ok", "wall_time_s": 80.0, **known}) == told


@pytest.mark.parametrize("terminal", [True, False])
def test_large_token_files_are_read_under_a_bar_or_with_one_line(terminal):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    with reading_tokens(console) as watch:
        watch(LARGE - 1, LARGE - 1)
        assert console.file.getvalue() == ""
        watch(0, 3 * 2**30)
        watch(2**30, 3 * 2**30)
    said = console.file.getvalue()
    if terminal:
        assert "reading tokens" in said
    else:
        assert said == "reading 3.0 GiB of tokens\n"
