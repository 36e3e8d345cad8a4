"""What a person sees while cells run, whatever a worker says."""

import io

import pytest
from rich.console import Console

from bench.matrix import load_matrix
from bench.progress import LiveDisplay


@pytest.mark.parametrize("stage", ["[/b]", "[red]", "\\", "train", None, 7])
def test_no_word_of_a_worker_breaks_the_display(tiny_matrix, stage):
    cells = load_matrix(tiny_matrix).cells[:2]
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    display = LiveDisplay(console)
    with display.open(cells, left_s=None):
        display.event(cells[0], {"stage": stage, "step": 1, "loss": 2.5})
        display.ended(cells[1], {"status": "crashed", "reason": stage, "stage": stage}, None)
        display.bars.refresh()
    assert "2.5000" in console.file.getvalue()
