"""Terms that are replaced while the worker runs."""

from __future__ import annotations

from contextlib import closing

import pytest
from fixtures_ledger import make_event
from fixtures_worker import CollectingLog, Site

from metering.alert_sinks import SinkSettings
from metering.background import spawn
from metering.settlement.crossings import Marks
from metering.settlement.ledger.outbox import put_alerts
from metering.settlement.ledger.store import open_ledger
from metering.settlement.terms import Offer, Terms


def test_other_sinks_end_the_senders_and_the_same_do_not() -> None:
    """What is on its way is finished by those who began it."""
    offer = Offer(Terms(), CollectingLog())
    ends = offer.begin_sending(is_over=False)
    offer.put(Terms(marks=Marks(backlog_high=1)))
    same = ends.is_set()
    offer.put(Terms(sinks=()))

    assert (same, ends.is_set()) == (False, True)
    assert list(offer.outlets) == []


def test_a_sink_that_cannot_be_opened_leaves_the_old_terms() -> None:
    """All of them: half of the new ones would be neither."""
    terms = Terms()
    offer = Offer(terms, CollectingLog())
    outlets = offer.outlets

    with pytest.raises(ModuleNotFoundError):
        offer.put(Terms(sinks=(SinkSettings(type="no_such_type"),)))
    assert offer.terms is terms
    assert offer.outlets is outlets


def test_the_end_ends_senders_that_begin_then() -> None:
    """They send once more and are done."""
    offer = Offer(Terms(), CollectingLog())

    assert offer.begin_sending(is_over=True).is_set()


async def test_a_running_worker_sends_to_the_sinks_that_are_put(site: Site) -> None:
    """Between two batches, with no stop: it settles on, and ends in order."""
    await site.publish_prices()
    offer = Offer(Terms(sinks=()), site.log)
    running = spawn(site.work(drain=False, offer=offer), name="worker")
    await site.commit(make_event())
    await site.until_settled(1)
    before = [event for event in site.log.said if event == "alert"]
    offer.put(Terms(marks=Marks(backlog_high=1)))
    with closing(open_ledger(site.ledger_url)) as ledger, ledger.write() as connection:
        put_alerts(connection, [("k:acme", {"tenant": "acme"})], 1)
    await site.commit(make_event())
    await site.until_settled(2)
    site.stop.set()
    tally = await running

    assert tally.settled == 2
    assert before == []
    assert "alert" in site.log.said
