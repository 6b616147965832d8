"""What invoices say beside amounts, as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_samples import BASE, faults, loaded

from metering.invoice_settings import UNNAMED, Party

SECTION = """invoices:
  issuer: {name: Weir Works, tax_id: DE1, email: ar@weir.test, address: "Uferstr. 12\\n\\n Berlin "}
  number_format: "{year}-{seq:04}"
  due_days: 14
  footer: "Pay to IBAN 1."
  logo: logo.png
  fonts: [cjk.ttf]
"""


def _files(folder: Path) -> None:
    (folder / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "cjk.ttf").write_bytes(b"\x00\x01\x00\x00")


def test_without_a_section_nobody_is_named(tmp_path: Path) -> None:
    """And a tenant is billed by its name."""
    found = loaded(tmp_path, BASE).settings.invoicing

    assert (found.issuer, found.due_days) == (UNNAMED.issuer, 30)
    assert set(found.customers) == set(loaded(tmp_path, BASE).settings.tenants)


def test_a_section_is_read(tmp_path: Path) -> None:
    _files(tmp_path)
    found = loaded(tmp_path, BASE + SECTION).settings.invoicing

    assert found.issuer == Party("Weir Works", ("Uferstr. 12", "Berlin"), "DE1", "ar@weir.test")
    assert (found.number_format, found.due_days) == ("{year}-{seq:04}", 14)
    assert found.logo == tmp_path.resolve() / "logo.png"
    assert found.fonts == (tmp_path.resolve() / "cjk.ttf",)


def test_who_is_billed(tmp_path: Path) -> None:
    """An address of its own, and the tenant's name where none is given."""
    text = (
        "tenants: [{id: a, name: Acme, billing: {address: Athens}}, {id: b, billing: {name: B}}]\n"
    )
    found = loaded(tmp_path, text).settings.invoicing.customers

    assert found == {"a": Party("Acme", ("Athens",)), "b": Party("B")}


@pytest.mark.parametrize(
    ("was", "now", "says"),
    [
        ("{year}-{seq:04}", "{year}", "invoices.number_format: two invoices could get the same"),
        ("{year}-{seq:04}", "{yaer}{seq}", "{yaer} is not among tenant, period"),
        ("{year}-{seq:04}", "{seq:0200}", "longer than 100 characters"),
        ("due_days: 14", "due_days: -1", "invoices.due_days"),
        ("logo.png", "cjk.ttf", "invoices.logo"),
        ("logo.png", "none.png", "none.png: No such file"),
        ("[cjk.ttf]", "[logo.png]", "invoices.fonts[0]"),
        ("tax_id", "taxid", "invoices.issuer.taxid"),
    ],
)
def test_slips_are_faults(tmp_path: Path, was: str, now: str, says: str) -> None:
    _files(tmp_path)

    assert any(says in each for each in faults(tmp_path, BASE + SECTION.replace(was, now, 1)))


def test_a_logo_is_not_too_large(tmp_path: Path) -> None:
    _files(tmp_path)
    (tmp_path / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1024 * 1024))

    assert any("larger than 1 MiB" in each for each in faults(tmp_path, BASE + SECTION))
