"""What a person sees while cells run, whatever a worker says."""

import io

import pytest
from rich.console import Console

from bench.matrix.expansion import load_matrix
from bench.run.progress import LiveDisplay, name


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
