"""Diagnosis of what goes on beside the books: jobs, webhooks, payments, credit. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from metering.job_settings import JobSettings
from metering.settlement.doctor_facts import (
    Facts,
    Finding,
    JobStanding,
    Level,
    MoneyIn,
    Reached,
    Undrawn,
    Unknown,
    age_of,
    count_of,
)
from metering.settlement.utc import utc_text

NS = 1_000_000_000
JOB_S = 600
"""A run begins within seconds, one after the other; one that has not is late."""

TOLD_S = 3_600
"""A message that is not taken for so long was tried a dozen times."""

CALLBACK_S = 600
DRAWN_S = 120
"""Grants are drawn from in each turn of the worker."""


def jobs(facts: Facts) -> Iterator[Finding]:
    """Whether what is due by the clock is done."""
    found = facts.jobs
    assert not isinstance(found, Unknown)
    fine = 0
    for job in facts.place.jobs:
        said = _job(job, found.get(job.name, JobStanding()), facts.asked.now_ns)
        fine += said is None
        if said is not None:
            yield said
    if fine or not facts.place.jobs:
        yield Finding(Level.OK, f"{count_of(fine, 'job')} in order", numbers={"jobs": fine})


def _job(job: JobSettings, at: JobStanding, now_ns: int) -> Finding | None:
    numbers = {"job": job.name, "attempts": at.attempts, "waits": at.waits}
    if at.through_ns is None and at.scheduled_for is None:
        return Finding(Level.NOTE, f"{job.name}: no worker has taken it up yet", START, numbers)
    if at.scheduled_for is not None and at.state != "done":
        due = utc_text(at.scheduled_for)
        again = f"`weir jobs run {job.name} --for {due}`, when the cause is mended"
        said = f"{job.name}, due {due}"
        if at.state == "failed":
            return Finding(Level.TROUBLE, f"{said}, failed: {at.message}", again, numbers)
        waited_s = (now_ns - at.scheduled_for) // NS
        if waited_s > JOB_S:
            why = f": {at.message}" if at.message else ""
            level = Level.NOTE if at.state == "running" or at.waits else Level.TROUBLE
            return Finding(
                level,
                f"{said}, is not done for {age_of(waited_s)} ({at.state}){why}",
                "it is tried again by itself; `weir jobs runs` says when",
                numbers,
            )
    if at.through_ns is not None:
        due_ns = job.cron.next(at.through_ns)
        late_s = (now_ns - due_ns) // NS
        if late_s > JOB_S:
            said = f"{job.name} was due at {utc_text(due_ns)}, and no worker has begun it"
            return Finding(Level.TROUBLE, said, START, numbers)
    return None


START = "start `weir worker`: one of the workers does what is due by the clock"


def webhooks(facts: Facts) -> Iterator[Finding]:
    """Whether other billing systems are told."""
    found = facts.webhooks
    assert not isinstance(found, Unknown)
    well = True
    for each in found:
        numbers = {"endpoint": each.endpoint, "waiting": each.waiting, "dead": each.dead}
        why = f": {each.reason}" if each.reason else ""
        retry = f"mend it, then `weir webhooks retry --endpoint {each.endpoint}`"
        gone = "" if each.endpoint in facts.place.webhooks else " (no longer in the file)"
        name = f"{each.endpoint}{gone}"
        if each.dead:
            well = False
            said = f"{name}: {count_of(each.dead, 'message')} given up{why}"
            yield Finding(Level.TROUBLE, said, retry, numbers)
        waited_s = (facts.asked.now_ns - (each.since_ns or facts.asked.now_ns)) // NS
        if each.waiting and waited_s > TOLD_S:
            well = False
            said = f"{name}: {count_of(each.waiting, 'message')} waiting, the oldest for "
            level = Level.NOTE if gone else Level.TROUBLE
            yield Finding(level, f"{said}{age_of(waited_s)}{why}", retry, numbers)
    if well:
        told = count_of(len(facts.place.webhooks), "endpoint")
        none = "nobody is told: the file has no section `webhooks`"
        yield Finding(Level.OK, f"{told} told" if facts.place.webhooks else none)


def payments(facts: Facts) -> Iterator[Finding]:
    """Whether money that came has become credit."""
    found = facts.payments
    assert isinstance(found, MoneyIn)
    numbers = {"unassigned": found.unassigned, "in_review": found.in_review}
    well = True
    if found.unassigned:
        well = False
        yield Finding(
            Level.TROUBLE,
            f"{count_of(found.unassigned, 'payment')} of nobody that the file knows: no credit yet",
            "`weir payments list --state unassigned`, then `weir payments assign`",
            numbers,
        )
    if found.in_review or found.callbacks_in_review:
        well = False
        total = found.in_review + found.callbacks_in_review
        yield Finding(
            Level.TROUBLE,
            f"{count_of(total, 'payment')} or callbacks wait for a person",
            "`weir payments list --state review` says why; `weir payments assign`, or `dismiss` "
            "for callbacks",
            {**numbers, "callbacks_in_review": found.callbacks_in_review},
        )
    waited_s = (facts.asked.now_ns - (found.callbacks_since_ns or facts.asked.now_ns)) // NS
    if found.callbacks and waited_s > CALLBACK_S:
        well = False
        yield Finding(
            Level.TROUBLE,
            f"{count_of(found.callbacks, 'callback')} not worked off, the oldest for "
            f"{age_of(waited_s)}",
            "see the worker's log, and whether Stripe can be reached from there",
            {"callbacks": found.callbacks},
        )
    if well:
        yield Finding(Level.OK, "no payment waits for anybody")


def credit(facts: Facts) -> Iterator[Finding]:
    """Whether balances are up with the ledger, and known to the proxies."""
    found = facts.credits
    assert isinstance(found, Undrawn)
    waited_s = (facts.asked.now_ns - (found.since_ns or facts.asked.now_ns)) // NS
    late = bool(found.events) and waited_s > DRAWN_S
    if late:
        yield Finding(
            Level.TROUBLE,
            f"{count_of(found.events, 'event')} not drawn from grants yet, for {age_of(waited_s)}",
            "the worker does it in each turn: see `worker` and its log",
            {"events": found.events},
        )
    lacking = facts.redis.without_balance if isinstance(facts.redis, Reached) else ()
    if lacking:
        names = ", ".join(lacking)
        yield Finding(
            Level.TROUBLE,
            f"prepaid, and Redis does not say what they may spend: {names}",
            "the worker publishes it once their windows are whole: see `windows` and `worker`, "
            "and give the worker the file that the proxies have",
            {"tenants": list(lacking)},
        )
    if not late and not lacking:
        yield Finding(Level.OK, "grants are drawn from, and balances are published")
