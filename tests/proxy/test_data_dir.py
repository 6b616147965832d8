"""Names of workers; the lock and the rest of the directory are met in test_supervisor."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.data_dir import (
    clear_state,
    installation_id,
    is_served,
    locked,
    serving_pid,
    state_path,
    worker_name,
    write_state,
)


def test_a_worker_finds_its_name_again(tmp_path: Path) -> None:
    """One after the other: the same name, which tells the installation."""
    names = []
    for _ in range(2):
        with worker_name(tmp_path) as name:
            names.append(name)

    assert names[0] == names[1]
    assert names[0].endswith(f"-{installation_id(tmp_path)}-w0")


def test_workers_at_once_have_names_of_their_own(tmp_path: Path) -> None:
    """And whoever comes after one has left takes its place."""
    with ExitStack() as others, ExitStack() as first:
        left = first.enter_context(worker_name(tmp_path))
        stay = [others.enter_context(worker_name(tmp_path)) for _ in range(2)]
        first.close()
        next_one = others.enter_context(worker_name(tmp_path))

    assert next_one == left
    assert len({left, *stay}) == 3


def test_who_serves_can_be_asked(tmp_path: Path) -> None:
    """From the first answer on, until the end."""
    answers = [is_served(tmp_path)]
    write_state(tmp_path, "http://127.0.0.1:8080")
    answers.append(is_served(tmp_path))
    clear_state(tmp_path)

    assert [*answers, is_served(tmp_path)] == [False, True, False]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": "me"}', '{"pid": 4194999}'])
def test_a_state_file_that_tells_nothing(tmp_path: Path, text: str) -> None:
    """A leftover or damaged state file is nobody serving."""
    state_path(tmp_path).write_text(text)

    assert not is_served(tmp_path)


def test_the_lock_says_who_serves_and_not_the_file_of_a_killed_run(tmp_path: Path) -> None:
    """A pid that is left in the directory is nobody's to be signalled."""
    before = serving_pid(tmp_path)
    with locked(tmp_path):
        during = serving_pid(tmp_path)

    assert (tmp_path / "lock").read_text().strip() == str(os.getpid())
    assert (before, during, serving_pid(tmp_path)) == (None, os.getpid(), None)
