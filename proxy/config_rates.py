"""Rates as they are written, to pico-USD per token or unit; what cannot be meant is a fault.

Rules: a rate of zero is written with `free: true`; one that lies above every list price was meant
for another unit, and the message says which key that is.
"""

from __future__ import annotations

from decimal import Decimal

from metering.money import rate_pico_per_mtok, rate_pico_per_token
from proxy.config_decode import Findings
from proxy.config_yaml import Path

USD_PER_MTOK_MAX = 1000
"""No list price has come near it; what lies above was meant for the other unit."""

UNIT_RATE_USD_MAX = 1000
"""Of one image, second or call: what lies above is an amount, not a rate."""


def checked_pico(rate: Decimal, path: Path, findings: Findings, *, is_free: bool) -> int | None:
    """A rate of tokens, whose key says whether it is per token or per million."""
    key = str(path[-1])
    is_per_mtok = key.endswith("_per_mtok")
    per_mtok = rate if is_per_mtok else rate * 1_000_000
    if _is_none(rate, path, findings, is_free=is_free):
        return None
    if per_mtok > USD_PER_MTOK_MAX:
        other = key.replace("_rate", "_per_mtok")
        findings.fault(
            path,
            f"{per_mtok.normalize():,f} USD per million tokens is more than {USD_PER_MTOK_MAX}",
            f"did you mean {other}: {rate:f}?" if other != key else None,
        )
        return None
    try:
        return (rate_pico_per_mtok if is_per_mtok else rate_pico_per_token)(rate)
    except ValueError as error:
        findings.fault(path, str(error))
        return None


def checked_unit_pico(
    rate: Decimal, path: Path, findings: Findings, *, is_free: bool
) -> int | None:
    """The rate of one unit that is no token."""
    if _is_none(rate, path, findings, is_free=is_free):
        return None
    if rate > UNIT_RATE_USD_MAX:
        findings.fault(path, f"{rate} USD per unit is more than {UNIT_RATE_USD_MAX}")
        return None
    try:
        return rate_pico_per_token(rate)
    except ValueError as error:
        findings.fault(path, str(error))
        return None


def _is_none(rate: Decimal, path: Path, findings: Findings, *, is_free: bool) -> bool:
    """Whether nothing, or less, would be billed by it, and that is not meant."""
    if rate < 0:
        findings.fault(path, f"a rate of {rate} is negative")
        return True
    if rate == 0 and not is_free:
        findings.fault(path, "a rate of zero bills nothing", "say `free: true` if it is meant")
        return True
    return False
