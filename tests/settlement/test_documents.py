"""The document of an invoice: amounts that add up, digests, and the same bytes everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from invoice_samples import CREDITS, FEE, HEADING, LATE, document, line, mixed, statement

from metering.settlement.documents import (
    days_of,
    document_bytes,
    due_of,
    make_document,
    reworded,
    says_the_same,
    status_of,
)

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "settlement" / "programs" / "render_invoices.py"


def test_everything_adds_up() -> None:
    """Lines, kinds, projects and models sum to the total; the credits lead to what is due."""
    made = mixed()

    assert sum(each["amount_nano"] for each in made["lines"]) == made["total_nano"]
    assert sum(made["sums"].values()) == made["total_nano"]
    for name in ("project", "model"):
        assert sum(each["amount_nano"] for each in made["subtotals"][name]) == made["total_nano"]
        assert sum(each["cents"] for each in made["subtotals"][name]) == int(
            made["total"].replace(".", "")
        )
    assert made["due_nano"] == made["total_nano"] - 25_000_000_000
    assert [each["line"] for each in made["lines"]] == list(range(1, 10))


def test_what_belongs_to_no_project_is_last() -> None:
    names = [each["project"] for each in mixed()["subtotals"]["project"]]

    assert names == ["default", "web", None]


@pytest.mark.parametrize(
    ("total", "credits_nano", "due"),
    [
        (10_000_000_000, 0, "10.00"),
        (10_005_000_000, 0, "10.00"),  # half-even
        (10_015_000_000, 15_000_000, "10.00"),
        (0, 0, "0.00"),
        (1_000_000_000, 2_500_000_000, "-1.50"),
    ],
)
def test_what_is_due_is_the_difference_of_what_is_shown(
    total: int, credits_nano: int, due: str
) -> None:
    """A reader who subtracts the printed amounts comes to the printed amount."""
    assert due_of(total, credits_nano) == due


def test_the_status_goes_by_the_month() -> None:
    november = 1_793_491_200_000_000_000

    assert status_of("2026-11", november, issued=False) == "draft"
    assert status_of("2026-10", november - 1, issued=False) == "draft"
    assert status_of("2026-10", november, issued=False) == "provisional"
    assert status_of("2026-10", november, issued=True) == "final"


def test_days_of_months() -> None:
    assert days_of("2028-02") == (date(2028, 2, 1), date(2028, 2, 29))
    assert days_of("2026-12") == (date(2026, 12, 1), date(2026, 12, 31))


def test_credits_in_any_order_are_the_same_document() -> None:
    body = statement([line(), FEE])
    one, other = (
        make_document(body, HEADING, applied=applied) for applied in (CREDITS, CREDITS[::-1])
    )

    assert document_bytes(one) == document_bytes(other)
    assert one["digests"]["grants"] != make_document(body, HEADING)["digests"]["grants"]


def test_digests_name_what_went_in() -> None:
    """Prices are those of lines without a plan; another event is another statement."""
    made = document(line(), line(price_version="other"), {**FEE, "price_version": "plan1"}, LATE)

    assert made["digests"]["price_versions"] == ["ab12cd34ef56", "other"]
    assert made["digests"]["events"] == "e3b0c442"
    assert made["digests"]["statement"] != document(line())["digests"]["statement"]


def test_other_words_over_the_same_lines() -> None:
    from dataclasses import replace

    made = mixed()
    again = reworded(made, replace(HEADING, footer="other", correction=1, number="n-C1"))

    assert (again["footer"], again["number"], again["lines"]) == ("other", "n-C1", made["lines"])
    assert says_the_same(made, made)
    assert not says_the_same(made, again)


@pytest.mark.slow(60)
@pytest.mark.timeout(120)
def test_the_same_bytes_whatever_the_machine_says(tmp_path: Path) -> None:
    """Time zone, locale, hash seed, order and repeats of events change nothing in any format."""
    said = set()
    for seed, zone, locale in (
        ("0", "UTC", "C"),
        ("1", "Pacific/Kiritimati", "de_DE.UTF-8"),
        ("4242", "America/St_Johns", "tr_TR.UTF-8"),
    ):
        folder = tmp_path / seed
        folder.mkdir()
        changes = {"PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale, "LANG": locale}
        environment = {**os.environ, **changes, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        done = subprocess.run(
            [sys.executable, str(PROGRAM), str(folder), seed],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        said.add(done.stdout)

    assert len(said) == 1
    assert len(said.pop().splitlines()) == 5
