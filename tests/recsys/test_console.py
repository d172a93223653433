"""Sentences on the terminal: one line each, whatever they quote."""

import io

from rich.console import Console

from recsys.console import Heartbeat, never_silent, one_line, progress


class Clock:
    """Clock that stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_silent_console_repeats_its_last_line_with_the_seconds_since() -> None:
    shown, clock = io.StringIO(), Clock()
    console = Console(file=shown)
    heart = Heartbeat(console, 8.0, clock)
    console.push_render_hook(heart)
    clock.now = 9.0
    heart.beat()
    assert shown.getvalue() == ""  # A server never prints here, and stays silent.
    console.print("train: starting Ray\nfuse: fitting [EASE]", markup=False)
    for clock.now in (10.0, 18.0, 19.0, 27.0):
        heart.beat()
    clock.now = 28.0
    console.print("fuse: done")
    assert shown.getvalue().splitlines()[1:] == [
        "fuse: fitting [EASE]",
        "... fuse: fitting [EASE] (9 s)",
        "... fuse: fitting [EASE] (18 s)",
        "fuse: done",
    ]


def test_a_command_has_one_console_of_progress() -> None:
    assert progress() is not progress()
    with never_silent():
        assert progress() is progress()


def test_a_sentence_is_one_line_that_no_terminal_obeys() -> None:
    assert one_line("a b: ü, 日本.") == "a b: ü, 日本."
    assert one_line("a\nb\x1b[31m\ud800\x9b") == r"a\nb\x1b[31m\ud800\x9b"
    line = one_line("begin " + "x" * 10_000 + " end")
    assert len(line) < 2_000
    assert line.startswith("begin ")
    assert line.endswith(" end")


def test_a_command_that_loads_for_long_says_that_it_is_starting() -> None:
    shown, clock = io.StringIO(), Clock()
    console = Console(file=shown)
    heart = Heartbeat(console, 8.0, clock, first="train: starting")
    console.push_render_hook(heart)
    clock.now = 9.0
    heart.beat()
    console.print("train: starting Ray")
    clock.now = 18.0
    heart.beat()
    assert shown.getvalue().splitlines() == [
        "... train: starting (9 s)",
        "train: starting Ray",
        "... train: starting Ray (9 s)",
    ]
