"""Files that could run code, fill the memory or harm a path are refused, and nothing happens."""

import tracemalloc

import pytest
import yaml

from bench.matrix.expansion import load_matrix
from tests.builders.matrices import MINIMAL, SOUND, broken, refusal


@pytest.mark.parametrize("word", ["off", "'off'"])
def test_off_is_text_as_people_mean_it(tmp_path, word):
    file = tmp_path / "matrix.yaml"
    file.write_text(SOUND.replace("steps: 100", f"steps: 100, step_timing: {word}"))
    assert {cell.spec.train.step_timing for cell in load_matrix(file).cells} == {"off"}


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/name:os.system"])
@pytest.mark.parametrize(
    "place", ["trial", "input.txt", "[1, 2, 3]", "3.0e-4", "{timeout_s: 60, cpus: 2}"]
)
def test_a_python_tag_is_refused_and_nothing_is_executed(tmp_path, monkeypatch, place, tag):
    calls = []
    monkeypatch.setattr("os.system", calls.append)
    error = refusal(tmp_path, broken(place, f'{tag} ["touch {tmp_path}/made"]'))
    assert f"{tag} is not allowed. Use text, numbers, lists, mappings." in str(error)
    assert calls == []
    assert not (tmp_path / "made").exists()


def test_an_alias_bomb_is_refused_within_a_little_memory(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 6)]
    tracemalloc.start()
    try:
        error = refusal(tmp_path, "\n".join(lines))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "expands to more than 100,000 values" in str(error)
    assert peak < 100e6  # all 1,000,000 of them take 500 MB


def test_axes_that_repeat_a_value_do_not_multiply_first(tmp_path):
    """A megabyte of repeated names would multiply to more cells than any memory holds."""
    text = SOUND.replace("[nanogpt, nanokimi]", str(["nanogpt"] * 40))
    text = text.replace("[adamw, truemuon]", str(["adamw"] * 40))
    text = text.replace("[cpu]", str(["cpu"] * 40))
    tracemalloc.start()
    try:
        error = refusal(tmp_path, text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "'nanogpt' is listed twice. Remove one." in str(error)
    assert peak < 3e6  # 64,000 arms take 6 MB


@pytest.mark.parametrize("name", ["exclude", "models"])
def test_a_value_that_holds_itself_is_refused(tmp_path, name):
    text = f"{MINIMAL}{name}: &self {{inner: *self}}\n"
    assert "expands to more than 100,000 values or 50 levels" in str(refusal(tmp_path, text))


def test_deep_nesting_is_refused(tmp_path):
    error = refusal(tmp_path, f"{MINIMAL}data: {'[' * 60}{']' * 60}\n")
    assert "50 levels. Write lists out" in str(error)
    assert error.mistakes[0].line == 3


@pytest.mark.parametrize(
    "name",
    ["a'; touch x", "../../x", "a/b", "..", ".hidden", "-rf", "x" * 300, "a\n", "a b", "ä", ""],
)
def test_a_name_that_could_harm_a_path_or_a_command_is_refused(tmp_path, name):
    quoted = yaml.safe_dump(name, default_style='"', width=1_000).strip()
    error = refusal(tmp_path, broken("name: trial", f"name: {quoted}"))
    assert [(mistake.line, mistake.where) for mistake in error.mistakes] == [(1, "name")]
    assert "cannot be a name. Use 1 to 64 letters, digits" in error.mistakes[0].what
    assert max(map(len, str(error).splitlines())) < 250 + len(str(tmp_path))

    error = refusal(tmp_path, f"{MINIMAL}models:\n  {quoted}: {{base: nanogpt}}\n")
    assert error.mistakes[0].line == 4
    assert "cannot be a name" in error.mistakes[0].what


@pytest.mark.parametrize(
    "value",
    [
        "!!bool maybe",
        '!!int ""',
        '!!float ""',
        "1" + ":59" * 200 + ".5",  # base 60, beyond a float
        "0x" + "f" * 5_000,  # more digits than Python prints
        "1" + ":59" * 3_000,
        "9" * 5_000,
        r'"\U00110000"',  # no character
        r'"\ud800"',  # half a character
    ],
    ids=lambda value: value[:12],
)
def test_a_value_that_python_cannot_hold_is_a_mistake(tmp_path, value):
    error = refusal(tmp_path, broken("100", value))
    assert {mistake.line for mistake in error.mistakes} <= {0, 3}
    assert str(error).encode()  # can be shown


@pytest.mark.parametrize("section", ["", "data: "])
def test_a_key_that_is_half_a_character_is_a_mistake(tmp_path, section):
    inner = r'{"\ud800": 1}' if section else r'"\ud800": 1'
    error = refusal(tmp_path, f"{MINIMAL}{section}{inner}\n")
    assert str(error).encode()
