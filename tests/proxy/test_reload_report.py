"""What became of a reload, written and read."""

from __future__ import annotations

from pathlib import Path

from proxy.reload_report import ReloadReport, read_report, report_path, write_report


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    """And one of a later version is read as far as it is known."""
    report = ReloadReport(
        "SIGHUP", 5, ok=True, applied=["pricing"], processes={"worker": "applied"}
    )
    write_report(tmp_path, report)
    path = report_path(tmp_path)

    assert read_report(tmp_path) == report
    path.write_bytes(path.read_bytes().replace(b'{"why"', b'{"new": 1, "why"'))
    assert read_report(tmp_path) == report


def test_no_report_is_none(tmp_path: Path) -> None:
    """Missing, or not a report."""
    missing = read_report(tmp_path)
    report_path(tmp_path).write_text("[]")

    assert (missing, read_report(tmp_path)) == (None, None)
