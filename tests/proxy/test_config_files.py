"""What counts as a change of a file, look by look."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fixtures_door import settings

from proxy.config_files import LOOK_EVERY_S, ConfigFiles, named_files


class Looking:
    """Files that are looked at again and again."""

    def __init__(self, folder: Path) -> None:
        self.source, self.named = folder / "config.yaml", folder / "cert.pem"
        self.source.write_text("a")
        self.named.write_text("c")
        self.files = ConfigFiles(self.source, (self.named,))
        self.files.take((self.named,))
        self.now_s = 0.0

    def look(self) -> bool:
        self.now_s += LOOK_EVERY_S
        return self.files.has_changed(self.now_s)


@pytest.fixture
def looking(tmp_path: Path) -> Looking:
    made = Looking(tmp_path)
    assert [made.look() for _ in range(3)] == [False] * 3
    return made


def test_a_change_counts_once_it_has_stood_for_a_look(looking: Looking) -> None:
    """Half a file is not taken up; and what was taken is no change any more."""
    looking.source.write_text("half")
    first = looking.look()
    looking.source.write_text("whole file")
    second, third = looking.look(), looking.look()
    looking.files.take((looking.named,))

    assert (first, second, third, looking.look()) == (False, False, True, False)


def test_a_touched_file_is_no_change(looking: Looking) -> None:
    """Only other contents are."""
    os.utime(looking.source, ns=(1, 1))

    assert [looking.look() for _ in range(3)] == [False] * 3


def test_a_file_that_is_gone_is_no_change(looking: Looking) -> None:
    """The one that takes its place is, also when it was moved there."""
    looking.source.unlink()
    gone = [looking.look() for _ in range(3)]
    beside = looking.source.with_suffix(".new")
    beside.write_text("b")
    beside.replace(looking.source)

    assert gone == [False] * 3
    assert [looking.look(), looking.look()] == [False, True]


def test_a_renewed_certificate_is_a_change(looking: Looking) -> None:
    """And is told apart from a change of the file itself."""
    looking.named.write_text("renewed")

    assert [looking.look(), looking.look()] == [False, True]
    assert looking.files.take((looking.named,)) is True
    assert looking.files.take((looking.named,)) is False


def test_a_faulty_file_is_read_once(looking: Looking) -> None:
    """It is reported when it comes, not every second for ever."""
    looking.source.write_text("faulty")
    looks = [looking.look() for _ in range(2)]
    looking.files.take((looking.named,))

    assert looks == [False, True]
    assert [looking.look() for _ in range(3)] == [False] * 3


def test_nothing_is_named_by_plain_settings() -> None:
    """No certificates, no files."""
    assert named_files(settings({"one": "http://one"})) == ()
