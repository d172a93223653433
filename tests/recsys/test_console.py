"""Sentences on the terminal: one line each, whatever they quote."""

from recsys.console import one_line


def test_a_sentence_is_one_line_that_no_terminal_obeys() -> None:
    assert one_line("a b: ü, 日本.") == "a b: ü, 日本."
    assert one_line("a\nb\x1b[31m\ud800\x9b") == r"a\nb\x1b[31m\ud800\x9b"
    line = one_line("begin " + "x" * 10_000 + " end")
    assert len(line) < 2_000
    assert line.startswith("begin ")
    assert line.endswith(" end")
