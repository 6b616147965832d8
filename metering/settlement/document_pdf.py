"""A document as PDF, by reportlab: the same document gives the same bytes.

Nobody imports this who does not want a PDF: reportlab is an extra (`tokenweir[pdf]`).

No time and no random id goes in. Letters are taken from the fonts that come with us, then from
those that were named; one that none of them has is an error, never a box on somebody's invoice.
Scripts that are written from right to left are refused: reportlab would print them backwards.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFError, TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Frame,
    Image,
    KeepTogether,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
)

from metering.settlement.document_rows import (
    HEADINGS,
    facts_of,
    notes_of,
    party_lines,
    provenance_of,
    sections_of,
    subtotals_of,
    title_of,
    totals_of,
)

FONTS = Path(__file__).parent / "fonts"
_REGULAR, _BOLD = "Weir", "Weir-Bold"
_INK, _GREY, _RULE = "#1c2733", "#5a6875", "#d5dbe1"
_WIDTHS_MM = (9, 85, 29, 32, 31)
_MARGIN_MM = 12
_RIGHT_TO_LEFT = frozenset({"R", "AL"})


class NoLetterError(Exception):
    """The PDF cannot be made: a letter has no font, or a font cannot be used."""


@dataclass(frozen=True, slots=True)
class _Face:
    """A font that was read: its name in the PDF, and the letters that it has."""

    name: str
    letters: frozenset[int]


class _Printer:
    """Texts of one document as what reportlab lays out."""

    def __init__(self, regular: Sequence[_Face], bold: Sequence[_Face]) -> None:
        self._faces = {False: regular, True: bold}
        self._known: dict[tuple[str, bool], str] = {}
        self._styles: dict[tuple[float, bool, str, int], ParagraphStyle] = {}

    def text(
        self,
        text: str,
        *,
        size: float = 8.5,
        bold: bool = False,
        color: str = _INK,
        align: int = 0,
        then: str = "",
    ) -> Any:
        """A paragraph; `then` stands below it, small and grey. `align` 2 is to the right."""

        key = size, bold, color, align
        if (style := self._styles.get(key)) is None:
            style = self._styles[key] = ParagraphStyle(
                "weir",
                fontName=self._faces[bold][0].name,
                fontSize=size,
                leading=size * 1.35,
                textColor=HexColor(color),
                alignment=align,
            )
        marked = "<br/>".join(self._marked(part, bold=bold) for part in text.split("\n"))
        if then:
            below = self._marked(then, bold=False)
            regular = self._faces[False][0].name
            marked += f'<br/><font name="{regular}" size="7" color="{_GREY}">{below}</font>'
        return Paragraph(marked, style)

    def _marked(self, text: str, *, bold: bool) -> str:
        """The text as markup, each run in the first font that has its letters."""
        runs: list[tuple[str, str]] = []
        for letter in unicodedata.normalize("NFC", text):
            name = self._face_of(letter, text, bold=bold)
            if runs and runs[-1][0] == name:
                runs[-1] = name, runs[-1][1] + letter
            else:
                runs.append((name, letter))
        usual = self._faces[bold][0].name
        return "".join(
            escape(run) if name == usual else f'<font name="{name}">{escape(run)}</font>'
            for name, run in runs
        )

    def _face_of(self, letter: str, text: str, *, bold: bool) -> str:
        known = self._known.get((letter, bold))
        if known is not None:
            return known
        code = f"U+{ord(letter):04X} {unicodedata.name(letter, 'without a name')}"
        if unicodedata.bidirectional(letter) in _RIGHT_TO_LEFT:
            raise NoLetterError(
                f"{text!r} holds {code}, which is written from right to left: "
                "use --format html and print that"
            )
        for face in self._faces[bold]:
            if ord(letter) in face.letters:
                self._known[letter, bold] = face.name
                return face.name
        raise NoLetterError(
            f"{text!r} holds {code}, which no font here has: "
            "name a TrueType font that has it in invoices.fonts, or use --format html"
        )


def document_pdf(
    document: Mapping[str, Any],
    *,
    logo: bytes | None = None,
    fonts: Sequence[Path] = (),
    simple: bool = False,
) -> bytes:
    """The document on A4 pages; NoLetterError for a letter that no font has."""
    try:
        regular = _faces((FONTS / "DejaVuSans.ttf", *fonts), _REGULAR)
        bold = _faces((FONTS / "DejaVuSans-Bold.ttf", *fonts), _BOLD)
    except (TTFError, OSError) as error:
        raise NoLetterError(f"a font cannot be used: {error}") from None
    printer = _Printer(regular, bold)
    pages = _layout(document, printer, logo, simple=simple, pages=None)[1]
    return _layout(document, printer, logo, simple=simple, pages=pages)[0]


def _faces(files: Sequence[Path], name: str) -> list[_Face]:

    found = []
    for number, file in enumerate(files):
        font = TTFont(f"{name}{number}", str(file))
        pdfmetrics.registerFont(font)
        found.append(_Face(font.fontName, frozenset(font.face.charToGlyph)))
    return found


def _layout(
    document: Mapping[str, Any],
    printer: _Printer,
    logo: bytes | None,
    *,
    simple: bool,
    pages: int | None,
) -> tuple[bytes, int]:
    """The PDF and how many pages it has; `pages` is what its feet say they are of."""

    data = io.BytesIO()
    margin = _MARGIN_MM * mm
    template = BaseDocTemplate(
        data,
        pagesize=A4,
        title=f"{title_of(document)} {document['number'] or document['period']}",
        author=document["issuer"]["name"],
        creator="tokenweir",
        invariant=1,
    )
    foot = " - ".join(filter(None, (document["issuer"]["name"], document["number"])))

    def end_page(canvas: Any, made: Any) -> None:
        page = f"Page {made.page} of {pages or '?'}"
        right = printer.text(page, size=7, color=_GREY, align=2)
        left = printer.text(foot, size=7, color=_GREY)
        for text, x, width in (
            (left, margin, 140 * mm),
            (right, A4[0] - margin - 40 * mm, 40 * mm),
        ):
            text.wrapOn(canvas, width, 10 * mm)
            text.drawOn(canvas, x, 8 * mm)

    frame = Frame(
        *(margin, 15 * mm, A4[0] - 2 * margin, A4[1] - 15 * mm - margin),
        leftPadding=0,
        rightPadding=0,
        topPadding=0,
        bottomPadding=0,
    )
    template.addPageTemplates([PageTemplate(frames=[frame], onPageEnd=end_page)])
    story = [*_head(document, printer, logo), *_lines(document, printer, simple=simple)]
    story += [*_sums(document, printer), *_end(document, printer)]
    template.build(story, canvasmaker=partial(Canvas, invariant=1))
    return data.getvalue(), template.page


def _head(document: Mapping[str, Any], printer: _Printer, logo: bytes | None) -> list[Any]:

    issuer: list[Any] = []
    if logo is not None:
        image = Image(io.BytesIO(logo), hAlign="LEFT")
        scale = min(60 * mm / image.imageWidth, 18 * mm / image.imageHeight)
        image.drawWidth, image.drawHeight = image.imageWidth * scale, image.imageHeight * scale
        issuer += [image, Spacer(1, 3 * mm)]
    issuer += _party(document["issuer"], printer)
    is_final = document["status"] == "final"
    title = printer.text(
        title_of(document), size=19, bold=True, align=2, color=_INK if is_final else "#9a3b00"
    )
    facts = Table(
        [[printer.text(a, color=_GREY), printer.text(b, align=2)] for a, b in facts_of(document)],
        colWidths=[32 * mm, 62 * mm],
        style=[*_TIGHT, ("TOPPADDING", (0, 0), (-1, -1), 0.8)],
        hAlign="RIGHT",
    )
    head = Table(
        [[issuer, [title, Spacer(1, 4 * mm), facts]]],
        colWidths=[92 * mm, 94 * mm],
        style=[*_TIGHT, ("VALIGN", (0, 0), (-1, -1), "TOP")],
    )
    to = [printer.text("Bill to", color=_GREY), *_party(document["customer"], printer)]
    return [head, Spacer(1, 8 * mm), *to, Spacer(1, 7 * mm)]


_TIGHT = [
    ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ("RIGHTPADDING", (0, 0), (-1, -1), 0),
    ("TOPPADDING", (0, 0), (-1, -1), 0),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 0),
]


def _party(party: Mapping[str, Any], printer: _Printer) -> list[Any]:
    lines = party_lines(party)
    named = bool(party["name"])
    return [
        printer.text(line, size=10 if named and not n else 8.5, bold=named and not n)
        for n, line in enumerate(lines)
    ]


def _lines(document: Mapping[str, Any], printer: _Printer, *, simple: bool) -> list[Any]:
    """The table of lines, its head on every page; a title never stands alone at the foot."""

    rows: list[list[Any]] = [
        [printer.text(text, bold=True, align=2 if n > 1 else 0) for n, text in enumerate(HEADINGS)]
    ]
    style: list[Any] = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 3),
        ("RIGHTPADDING", (0, 0), (-1, -1), 3),
        ("TOPPADDING", (0, 0), (-1, -1), 2.2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2.8),
        ("LINEBELOW", (0, 0), (-1, 0), 1, HexColor(_INK)),
        ("LINEBELOW", (0, 1), (-1, -1), 0.4, HexColor(_RULE)),
    ]
    for section in sections_of(document, simple=simple):
        at = len(rows)
        amount = printer.text(section.amount, bold=True, align=2)
        rows.append([printer.text(section.title, bold=True), "", "", "", amount])
        style += [
            ("SPAN", (0, at), (3, at)),
            ("TOPPADDING", (0, at), (-1, at), 8),
            ("NOSPLIT", (0, at), (-1, at + 1)),
        ]
        rows += [
            [
                printer.text(row.line, color=_GREY),
                printer.text(row.item, then=row.detail),
                *(printer.text(text, align=2) for text in (row.quantity, row.rate, row.amount)),
            ]
            for row in section.rows
        ]
    if len(rows) == 1:
        return []
    widths = [width * mm for width in _WIDTHS_MM]
    return [Table(rows, colWidths=widths, repeatRows=1, style=style)]


def _sums(document: Mapping[str, Any], printer: _Printer) -> list[Any]:

    totals = totals_of(document)
    last = len(totals) - 1
    rows = [
        [
            printer.text(a, bold=n == last, size=11 if n == last else 8.5),
            printer.text(b, bold=n == last, size=11 if n == last else 8.5, align=2),
        ]
        for n, (a, b) in enumerate(totals)
    ]
    table = Table(
        rows,
        colWidths=[45 * mm, 65 * mm],
        hAlign="RIGHT",
        style=[
            ("LEFTPADDING", (0, 0), (-1, -1), 3),
            ("RIGHTPADDING", (0, 0), (-1, -1), 3),
            ("TOPPADDING", (0, 0), (-1, -1), 1),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LINEABOVE", (0, last), (-1, last), 1, HexColor(_INK)),
        ],
    )
    story: list[Any] = [KeepTogether([Spacer(1, 5 * mm), table])]
    for name, title in (("project", "By project"), ("model", "By model")):
        if pairs := subtotals_of(document, name):
            rows = [[printer.text(a), printer.text(b, align=2)] for a, b in pairs]
            rows.insert(0, [printer.text(title, bold=True), ""])
            subtotals = Table(
                rows,
                colWidths=[80 * mm, 31 * mm],
                repeatRows=1,
                hAlign="LEFT",
                style=[
                    ("LEFTPADDING", (0, 0), (-1, -1), 3),
                    ("RIGHTPADDING", (0, 0), (-1, -1), 3),
                    ("TOPPADDING", (0, 0), (-1, -1), 1),
                    ("VALIGN", (0, 0), (-1, -1), "TOP"),
                    ("LINEBELOW", (0, 0), (-1, -1), 0.4, HexColor(_RULE)),
                ],
            )
            story += [Spacer(1, 5 * mm), subtotals]
    return story


def _end(document: Mapping[str, Any], printer: _Printer) -> list[Any]:

    parts = [
        [Spacer(1, 5 * mm), *map(printer.text, notes)] for notes in [notes_of(document)] if notes
    ]
    if document["footer"]:
        parts.append([Spacer(1, 6 * mm), printer.text(document["footer"])])
    made_from = [f"Amounts in {document['currency']}. Made from:"]
    made_from += [f"{name}: {value}" for name, value in provenance_of(document)]
    grey = [printer.text(text, size=6.5, color=_GREY) for text in made_from]
    return [KeepTogether(part) for part in [*parts, [Spacer(1, 6 * mm), *grey]]]
