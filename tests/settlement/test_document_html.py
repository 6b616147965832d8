"""An invoice as one page: whole in itself, and nothing from outside is markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from invoice_samples import CUSTOMER, HEADING, document, line, mixed

from metering.settlement.document_html import document_html

_EVIL = '"><script>alert(1)</script><img src=http://x onerror=y>&amp;'


class _Page(HTMLParser):
    """Tags, their attributes, and the text between them; complains of what is not closed."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page.decode())
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_nothing_runs_and_nothing_is_loaded() -> None:
    """No script, link, form or address; the policy forbids them besides."""
    page = document_html(mixed())
    found = _Page(page)

    assert not {"script", "link", "form", "iframe", "a"} & {tag for tag, _ in found.tags}
    assert not re.search(rb"https?:|url\(|@import", page)
    assert b"default-src 'none'" in page


def test_what_comes_from_outside_is_text() -> None:
    """A name in any place shows as it was written."""
    heading = HEADING.__class__(
        issuer=CUSTOMER.__class__(_EVIL, (_EVIL,), _EVIL, _EVIL),
        customer=CUSTOMER.__class__(_EVIL, (_EVIL,)),
        status="final",
        number=_EVIL,
        corrects=_EVIL,
        reason=_EVIL,
        footer=_EVIL,
        issued_at=1,
    )
    made = document(line(model=_EVIL, project=_EVIL, variant=_EVIL), heading=heading)
    plain, found = _Page(document_html(document(line()))), _Page(document_html(made))

    tags = {tag for tag, _ in found.tags}
    assert tags - {tag for tag, _ in plain.tags} <= {"footer", "p", "div"}
    assert "".join(found.texts).count(_EVIL) >= 10
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)


def test_amounts_stand_as_they_are() -> None:
    text = " ".join(_Page(document_html(mixed())).texts)

    for part in ("Invoice", "acme-2026-10", "Ακμή & Дочерняя <Holdings>", "-12.35", "Amount due"):
        assert part in text
    assert "Usage" in text
    assert "simple" not in text


def test_the_head_of_the_table_repeats_and_pages_are_counted() -> None:
    page = document_html(mixed()).decode()

    assert "display: table-header-group" in page
    assert 'content: "Page " counter(page) " of " counter(pages)' in page


def test_a_logo_is_in_the_page() -> None:
    [image] = [
        attributes
        for tag, attributes in _Page(document_html(mixed(), logo=b"\x89PNG1")).tags
        if tag == "img"
    ]

    assert image["src"] == "data:image/png;base64,iVBORzE="


def test_a_month_without_usage_has_no_table_of_lines() -> None:
    page = document_html(document())

    assert b"<thead>" not in page
    assert b"Nothing was used" in page
    assert b"0.00 USD" in page
