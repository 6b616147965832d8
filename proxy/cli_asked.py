"""What a command asks of a ledger that may be too old for the question."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from proxy import cli_reports
from proxy.cli_options import FAILED, NOT_FOUND, fail

if TYPE_CHECKING:
    from metering.settlement.ledger.store import Ledger
    from proxy.settings import Settings

_Answer = TypeVar("_Answer")


def asked(
    settings: Settings,
    knows: Callable[[Ledger], bool],
    ask: Callable[[Ledger], _Answer | None],
    *,
    as_json: bool,
) -> _Answer:
    """What the ledger answers, or the end of the process with the reason; `knows` says whether it
    has the tables that `ask` reads."""

    def checked(ledger: Ledger) -> _Answer | None:
        if not knows(ledger):
            raise LookupError("the ledger is of an older version: `weir worker` brings it up")
        return ask(ledger)

    try:
        found = cli_reports.read_ledger(settings, checked)
    except cli_reports.NotFoundError as error:
        fail(NOT_FOUND, str(error), as_json)
    except (cli_reports.LedgerError, LookupError) as error:
        fail(FAILED, str(error.args[0]), as_json)
    if found is None:
        fail(NOT_FOUND, "nothing is settled yet", as_json)
    return found
