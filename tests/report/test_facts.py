"""What a section ran on, in words."""

import pytest

from bench.merge.merging import merge
from bench.report.page.facts import facts
from tests.builders.results import Results, sections_of


@pytest.mark.parametrize(
    ("epochs", "told"),
    [
        (7.1234, "100 steps of 10 tokens (7.12 epochs), 1 thread"),
        (None, "100 steps of 10 tokens, 1 th"),
    ],
)
def test_training_is_told_in_epochs_where_they_are_known(tmp_path, epochs, told):
    folder = Results(tmp_path)
    folder.cell(epochs=epochs)
    (section,) = sections_of(folder)
    found = dict(facts(section, merge([folder.path]).sources))
    assert found["Training"].startswith(told)
