"""Shared memory between one writer and any reader: whole, whatever dies when."""

import os
import signal
import time

import pytest

from proxy.metrics_board import Board

# from Python 3.12 on, where some plugin of pytest has a thread; the children here only write
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def test_what_was_written_last_is_read():
    """Nothing before the first; longer, shorter, empty."""
    board = Board(slot_bytes=100)
    assert board.read() is None

    for body in (b"one", b"x" * 100, b"", b"two"):
        assert board.write(body)
        assert board.read() == body


def test_what_is_too_long_changes_nothing():
    """The old stays, and the writer is told."""
    board = Board(slot_bytes=10)
    board.write(b"old")

    assert not board.write(b"x" * 11)
    assert board.read() == b"old"


def test_a_writer_killed_half_way_leaves_what_was_whole():
    """The place that readers look at is never the one that is written."""
    board = Board(slot_bytes=100)
    board.write(b"first")
    board.write(b"whole")
    at = board._place(1)
    board._memory[at : at + 20] = b"\xff" * 20

    assert board.read() == b"whole"


def test_a_board_that_was_spoiled_says_nothing():
    """A checksum that does not fit is not read as numbers."""
    board = Board(slot_bytes=100)
    board.write(b"whole")
    board._memory[board._place(board._memory[0]) + 9] ^= 1

    assert board.read() is None


def test_a_child_killed_at_any_moment_leaves_a_whole_board():
    """kill -9 into a writer that never rests, fifty times; its last words are read all the same."""
    board = Board(slot_bytes=200_000)
    for turn in range(50):
        child = os.fork()
        if child == 0:
            while True:
                for letter in b"abcdef":
                    board.write(bytes([letter]) * (100_000 + letter))
        time.sleep(0.001 * (turn % 7))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        body = board.read()

        assert body is None or (body == body[:1] * (100_000 + body[0]))
    assert board.read() is not None


def test_readers_never_see_half():
    """While another process writes as fast as it can, every read is one of its writes."""
    board = Board(slot_bytes=200_000)
    board.write(b"a" * (100_000 + ord("a")))
    child = os.fork()
    if child == 0:
        while True:
            for letter in b"abcdef":
                board.write(bytes([letter]) * (100_000 + letter))
    try:
        for _ in range(300):
            body = board.read()
            assert body is not None
            assert body == body[:1] * (100_000 + body[0])
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
