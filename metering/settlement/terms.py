"""What the worker goes by that a person may change while it runs: rules, marks, tolerances, sinks.

New terms are offered as a whole, and each lane takes them up between two batches: no batch, and no
turn of the upkeep, begins with old terms and ends with new ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from metering.alert_sinks import DEFAULT_SINKS, SinkSettings
from metering.settlement.counting import Rules
from metering.settlement.crossings import Marks
from metering.settlement.sending import Outlet, open_outlets
from metering.settlement.watch import Log
from metering.stripe_settings import StripeSettings
from metering.tolerances import Tolerances


@dataclass(frozen=True, slots=True)
class Terms:
    """One configuration, as far as the worker goes by it."""

    rules: Rules = field(default_factory=Rules)
    marks: Marks = field(default_factory=Marks)
    tolerances: Tolerances = field(default_factory=Tolerances)
    sinks: Sequence[SinkSettings] = DEFAULT_SINKS
    stripe: StripeSettings | None = None
    levels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """By tenant, the amounts of credit whose undercutting is told, in nano-USD."""


class Offer:
    """The terms that hold, and word for the senders when their sinks are others."""

    def __init__(self, terms: Terms, log: Log) -> None:
        """Opens the sinks; what is wrong with one is raised as its module raises it."""
        self._log = log
        self.terms = terms
        self.outlets: Sequence[Outlet] = open_outlets(terms.sinks, log)
        self._ends = asyncio.Event()

    def put(self, terms: Terms) -> None:
        """Offer these from now on. A sink that cannot be opened leaves the old terms as they are.

        Senders whose sinks have changed finish what they are at; the new ones go on from there.
        """
        if tuple(terms.sinks) != tuple(self.terms.sinks):
            self.outlets = open_outlets(terms.sinks, self._log)
            self._ends.set()
        self.terms = terms

    def begin_sending(self, *, is_over: bool) -> asyncio.Event:
        """Set when the senders that begin now have to end."""
        self._ends = asyncio.Event()
        if is_over:
            self._ends.set()
        return self._ends

    def end_sending(self) -> None:
        """Nothing will be settled any more."""
        self._ends.set()
