"""Which spools the first proxy takes over."""

from __future__ import annotations

from pathlib import Path

import pytest
from caps_samples import hold

from metering.caps import Vector
from metering.spool import Spool, SpoolDepth
from proxy.adopted import find_abandoned, find_abandoned_journals, total_depth


async def leave(data_dir: Path, proxy_id: str, records: int) -> None:
    """A spool with so many records that Redis does not have."""
    spool = Spool(data_dir, proxy_id)
    await spool.open()
    for _ in range(records):
        await spool.append(hold(), Vector(1), ())
    await spool.close()


@pytest.mark.parametrize(
    ("proxy_id", "workers", "adopted"),
    [
        pytest.param("a1-0", 2, ["a1-2", "a1-10"], id="those beyond the last worker"),
        pytest.param("a1-0", 11, [], id="nobody is missing"),
        pytest.param("a1-1", 2, [], id="not the first proxy"),
        pytest.param("b2-0", 1, ["b2-1"], id="another installation"),
    ],
)
async def test_what_is_adopted(
    tmp_path: Path, proxy_id: str, workers: int, adopted: list[str]
) -> None:
    """In their order, with something in them, and of this installation only."""
    for name, records in {
        "a1-1": 1,
        "a1-10": 1,
        "a1-2": 1,
        "a1-3": 0,
        "b2-1": 1,
        "a1-x": 1,
    }.items():
        await leave(tmp_path, name, records)

    assert find_abandoned(tmp_path, proxy_id, workers=workers) == adopted


def test_which_journals_are_adopted(tmp_path: Path) -> None:
    """Those of processes that are not there any more, with an exchange in them; what was not
    written whole, and what waits for a person, is none."""
    for name in ("a1-1/x", "a1-2/x", "a1-3/x.damaged", "a1-4/x.tmp", "a1-10/x", "b2-5/x"):
        path = tmp_path / "local" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")

    assert find_abandoned_journals(tmp_path, "a1-0", workers=2) == ["a1-2", "a1-10"]
    assert find_abandoned_journals(tmp_path, "a1-1", workers=2) == []


def test_a_directory_without_spools_has_none_to_adopt(tmp_path: Path) -> None:
    assert find_abandoned(tmp_path, "a1-0", workers=1) == []
    assert find_abandoned_journals(tmp_path, "a1-0", workers=1) == []


async def test_the_depth_is_that_of_all(tmp_path: Path) -> None:
    """So that metrics and alerts see what waits in adopted spools too."""
    await leave(tmp_path, "a1-1", 2)
    own, adopted = Spool(tmp_path, "a1-0"), Spool(tmp_path, "a1-1")
    for spool in (own, adopted):
        await spool.open()
    await own.append(hold(), Vector(1), ())

    depth, ours = total_depth([own, adopted]), own.depth
    for spool in (own, adopted):
        await spool.close()

    assert depth.records == 3
    assert depth.bytes > ours.bytes
    assert total_depth([]) == SpoolDepth()
