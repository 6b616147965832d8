"""`invoices` of the file and each tenant's `billing`. A number that two could get is a fault."""

from __future__ import annotations

from pathlib import Path as FilePath

from metering.invoice_settings import Invoicing, Party, is_unique, number_of
from proxy.config_decode import Findings
from proxy.config_invoices_shape import InvoicesShape, PartyShape
from proxy.config_shape import FileShape
from proxy.config_yaml import Path

_SECTION: Path = ("invoices",)
_LOGO_BYTES_MAX = 1024 * 1024
_IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_FONTS = (b"\x00\x01\x00\x00", b"true", b"ttcf")
_NUMBER_MAX = 100


def build_invoicing(shape: FileShape, findings: Findings, directory: FilePath) -> Invoicing:
    """What invoices say; relative paths are from `directory`."""
    written = shape.invoices
    _check_number(written, findings)
    logo = None
    if written.logo is not None:
        logo = directory / written.logo
        is_image = _check_file((*_SECTION, "logo"), logo, _IMAGES, "a PNG or a JPEG", findings)
        if is_image and logo.stat().st_size > _LOGO_BYTES_MAX:
            findings.fault((*_SECTION, "logo"), f"{logo} is larger than 1 MiB")
    fonts = tuple(directory / each for each in written.fonts)
    for index, font in enumerate(fonts):
        _check_file((*_SECTION, "fonts", index), font, _FONTS, "a TrueType font", findings)
    customers = {each.id: _party(each.billing, each.name or each.id) for each in shape.tenants}
    return Invoicing(
        issuer=_party(written.issuer, ""),
        customers=customers,
        number_format=written.number_format,
        due_days=written.due_days,
        footer=written.footer.strip(),
        logo=logo,
        fonts=fonts,
    )


def _party(written: PartyShape, name: str) -> Party:
    lines = tuple(line.strip() for line in written.address.splitlines() if line.strip())
    return Party(written.name or name, lines, written.tax_id, written.email)


def _check_number(written: InvoicesShape, findings: Findings) -> None:
    path: Path = (*_SECTION, "number_format")
    try:
        made = number_of(written.number_format, tenant="t" * 64, period="2026-11", seq=10**9)
    except (ValueError, KeyError, IndexError) as error:
        findings.fault(path, f"is no format of a number: {error}", "{tenant}-{period}")
        return
    if not made.isprintable() or len(made) > _NUMBER_MAX:
        findings.fault(path, f"makes numbers longer than {_NUMBER_MAX} characters, or unprintable")
    if not is_unique(written.number_format):
        message = "two invoices could get the same number"
        findings.fault(path, message, "add {seq}, or {tenant} and {period}")


def _check_file(
    path: Path, file: FilePath, heads: tuple[bytes, ...], what: str, findings: Findings
) -> bool:
    """Whether the file can be read and begins as one of its kind does."""
    try:
        with file.open("rb") as opened:
            head = opened.read(8)
    except (OSError, ValueError) as error:
        findings.fault(path, f"cannot read {file}: {getattr(error, 'strerror', None) or error}")
        return False
    if not head.startswith(heads):
        findings.fault(path, f"{file} is not {what}")
        return False
    return True
