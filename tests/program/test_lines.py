"""Bytes to lines: whatever a program prints, at whatever borders it arrives."""

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.program.lines import MAX_LINE, LineSplitter

STEADY = settings(deadline=None, derandomize=True, database=None)


def split(*parts: bytes) -> list[str]:
    splitter = LineSplitter()
    lines = [line for part in parts for line in splitter.feed(part)]
    return lines + splitter.rest()


def test_lines_end_as_on_any_system_and_where_progress_bars_go_back():
    assert split(b"a\nb\r\nc\r 10%\r 20%\n\nd") == ["a", "b", "c", " 10%", " 20%", "d"]


def test_colours_and_titles_are_taken_out():
    coloured = b"\x1b[1;32mloss\x1b[0m 3.5\x1b[K \x1b]0;a title\x07done\n"
    assert split(coloured) == ["loss 3.5 done"]
    assert split(b"\x1b[0m\n") == []


def test_binary_is_text_with_marks():
    assert split(b"\xff\xfe\x00loss 3\xc3\n") == ["��\x00loss 3�"]


def test_a_letter_of_two_bytes_may_arrive_in_halves():
    assert split(b"M\xc3", b"\xbcon\n") == ["Müon"]


PIECES = st.sampled_from([b"\r", b"\n", b"\x1b[0m", "ü".encode(), b"loss 1.5", b"\xff", b" "])


@STEADY
@given(st.lists(PIECES).map(b"".join), st.data())
def test_the_lines_are_the_same_at_any_borders(text, data):
    borders = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    parts = [text[a:b] for a, b in zip([0, *borders], [*borders, len(text)], strict=True)]
    assert split(*parts) == split(text)


@STEADY
@given(st.lists(st.integers(1, 3 * MAX_LINE), max_size=4), st.integers(100, MAX_LINE))
def test_long_lines_are_cut_alike_at_any_borders_and_are_counted(lengths, size):
    text = b"\n".join(b"ab " * (length // 3) + b"c" for length in lengths)
    splitter = LineSplitter()
    lines = []
    for begin in range(0, len(text), size):
        lines += splitter.feed(text[begin : begin + size])
        assert len(splitter._rest) <= MAX_LINE + 1
    assert [*lines, *splitter.rest()] == split(text)
    assert splitter.cut == sum(len(line) > MAX_LINE for line in text.split(b"\n"))
    assert all(len(line) <= MAX_LINE for line in split(text))


def test_no_number_is_cut_in_two():
    splitter = LineSplitter()
    beginning = b"loss " + b"x" * (MAX_LINE - 9)
    assert len(beginning + b" 3.1") == MAX_LINE
    assert splitter.feed(beginning + b" 3.14159\n") == [beginning.decode()]
    assert splitter.cut == 1


def test_a_long_line_without_a_space_is_dropped_and_counted():
    splitter = LineSplitter()
    assert splitter.feed(b"x" * (MAX_LINE + 1) + b"\nloss 1\n") == ["loss 1"]
    assert splitter.cut == 1
