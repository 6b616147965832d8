"""An invoice as PDF: the same bytes, pages that are counted, and no letter that is lost."""

from __future__ import annotations

import hashlib
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from invoice_samples import CUSTOMER, HEADING, document, line, mixed

from metering.invoice_settings import Party
from metering.settlement.document_pdf import FONTS, NoLetterError, document_pdf


def text_of(data: bytes, folder: Path) -> str:
    """What a reader of the PDF finds in it."""
    file = folder / "invoice.pdf"
    file.write_bytes(data)
    done = subprocess.run(
        ["pdftotext", "-layout", str(file), "-"], capture_output=True, check=True, text=True
    )
    return done.stdout


def test_the_same_document_is_the_same_bytes() -> None:
    """No time and no random id goes in."""
    first, second = document_pdf(mixed()), document_pdf(mixed())

    assert first == second
    assert first.startswith(b"%PDF-")
    assert document_pdf(mixed(), simple=True) != first


def test_it_says_what_the_document_says(need, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Names in other alphabets and signs of markup among it."""
    need("pdftotext")
    text = text_of(document_pdf(mixed()), tmp_path)

    for part in (
        "acme-2026-10",
        "Uferstraße 12",
        "Ακμή & Дочерняя <Holdings>",
        "-12.35",
        "Amount due",
    ):
        assert part in text
    assert re.search(r"Total +49\.95 USD|Total +\d", text)


@pytest.mark.slow(20)
@pytest.mark.timeout(60)
def test_300_lines_have_a_head_and_a_count_on_every_page(need, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    need("pdftotext")
    names = [f"provider/family-{n}-with-a-long-name" for n in range(300)]
    pages = text_of(document_pdf(document(*[line(model=name) for name in names])), tmp_path)
    found = [page for page in pages.split("\f") if page.strip()]

    assert len(found) > 5
    for number, page in enumerate(found, 1):
        assert f"Page {number} of {len(found)}" in page
    with_lines = [page for page in found if "provider/family" in page and "input tokens" in page]
    assert all("Unit price" in page for page in with_lines[:-1])
    assert all(name in pages.replace("\n", "") for name in names[:50])


def test_a_letter_without_a_font_is_an_error() -> None:
    """And says which it is, in what, and what to do."""
    heading = replace(HEADING, customer=Party("漢字株式会社"))

    with pytest.raises(NoLetterError, match=r"'漢字株式会社' holds U\+6F22 .*invoices\.fonts"):
        document_pdf(document(line(), heading=heading))


def test_another_font_brings_its_letters(tmp_path: Path) -> None:
    """A font of the configuration is asked after ours; one that is none is an error."""
    (tmp_path / "broken.ttf").write_bytes(b"\x00\x01\x00\x00nonsense")

    assert document_pdf(mixed(), fonts=[FONTS / "DejaVuSans.ttf"]).startswith(b"%PDF-")
    with pytest.raises(NoLetterError, match="a font cannot be used"):
        document_pdf(mixed(), fonts=[tmp_path / "broken.ttf"])


def test_scripts_from_right_to_left_are_refused() -> None:
    """They would be printed backwards."""
    heading = replace(HEADING, customer=replace(CUSTOMER, name="חברה"))

    with pytest.raises(NoLetterError, match="from right to left"):
        document_pdf(document(line(), heading=heading))


def test_markup_in_names_is_text() -> None:
    """Reportlab's paragraphs take tags; ours are the only ones."""
    heading = replace(HEADING, customer=Party('<font color="red">A</b> & <img src="/etc/passwd"/>'))

    assert document_pdf(document(line(), heading=heading)).startswith(b"%PDF-")


def test_a_month_of_nothing_is_a_page() -> None:
    assert document_pdf(document()).count(b"/Type /Page\n") <= 1


def test_the_licence_beside_the_fonts_is_whole() -> None:
    """Both notices and both permissions, as upstream has them: they have to go with the fonts."""
    text = (FONTS / "LICENSE-DejaVu.txt").read_bytes()

    assert hashlib.sha256(text).hexdigest() == (
        "b76eadf190012cb0794051b4d8caaa8491f4c54560a55e6bf94672ccd1ff611a"
    )
