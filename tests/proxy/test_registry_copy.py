"""The registry as a machine keeps it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from metering.registry_body import NOTHING, BrokenRegistryError, Snapshot
from proxy.registry_copy import copy_path, read_copy, write_copy

FOUND = Snapshot(3, ({"id": "acme", "limits": {"tenant": {"daily_cap": Decimal("1.5")}}},))


def test_what_was_kept_is_read(tmp_path: Path) -> None:
    """For the owner alone, whole, and over what was there; nothing where nothing was kept."""
    assert read_copy(tmp_path) == NOTHING
    write_copy(tmp_path, NOTHING)
    write_copy(tmp_path, FOUND)

    assert read_copy(tmp_path) == FOUND
    assert read_copy(tmp_path).version == FOUND.version
    assert copy_path(tmp_path).stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["registry.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"number": "x"}', '{"number": 1}'])
def test_what_is_no_copy_is_refused(tmp_path: Path, text: str) -> None:
    """By the name of the file."""
    copy_path(tmp_path).write_text(text)

    with pytest.raises(BrokenRegistryError, match=r"registry\.json"):
        read_copy(tmp_path)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """It is not taken for nothing."""
    copy_path(tmp_path).mkdir()

    with pytest.raises(BrokenRegistryError, match="cannot be read"):
        read_copy(tmp_path)
