"""Credit of tenants: grants, and what is left of them."""

from __future__ import annotations

from typing import Any

from metering.clock import now_ns
from metering.ids import is_id
from metering.settlement.credits import Grant, Standing
from metering.settlement.ledger import credit_books as books
from metering.settlement.ledger.store import Ledger
from proxy.admin.errors import Conflict, FieldRefused, NotFound
from proxy.admin.pages import (
    AMOUNT,
    PAGE,
    TENANT,
    TIME,
    amounts,
    listed,
    nano_of,
    page,
    time_ns,
)
from proxy.admin.routes import BASE, Answer, Call, Role, Route
from proxy.admin.rows import balance_row, entry_row, grant_row, new_grant_id

PRIORITY = 100


async def list_grants(call: Call) -> Answer:
    """Every grant, in the order in which it is drawn from."""
    found = await _balances(call)
    rows = [_row(each) for balance in found for each in balance.grants]
    return Answer(page(rows, lambda row: row["id"], call.query))


async def list_balances(call: Call) -> Answer:
    """What is left for each tenant, and what became of the rest."""
    rows = [
        {
            **balance_row(each),
            **amounts("left", each.left_nano),
            **amounts("granted", each.granted_nano),
            **amounts("spent", each.spent_nano),
            **amounts("expired", each.expired_nano),
        }
        for each in await _balances(call)
    ]
    return Answer(page(rows, lambda row: row["tenant"], call.query))


async def show_grant(call: Call) -> Answer:
    """One grant, and everything that became of it."""
    name = call.path["grant"]

    def ask(ledger: Ledger) -> dict[str, Any]:
        entries = [
            {
                **entry_row(each),
                **amounts("amount", each["amount_nano"]),
                **amounts("owed", each["owed_nano"]),
            }
            for each in books.entries_of_grant(ledger, name)
        ]
        return {**_row(_known(ledger, name)), "entries": entries}

    return Answer(await call.console.ask(ask))


async def create_grant(call: Call) -> Answer:
    """Give credit; a repeat under the same id changes nothing."""
    body, at_ns = call.body, now_ns()
    if body["tenant"] not in call.console.settings.tenants:
        raise NotFound(f"There is no tenant {body['tenant']!r}, or it is not served yet.")
    if body.get("kind") == "paid" and not body.get("reference"):
        raise FieldRefused("A paid grant needs the payment it stands for.", param="reference")
    name = body.get("id") or new_grant_id()
    if not is_id(name):
        raise FieldRefused("id must be 1 to 64 of A-Z a-z 0-9 . _ -", param="id")

    def ask(ledger: Ledger) -> tuple[Standing, bool]:
        wanted = _wanted(body, name, at_ns, books.grant_of(ledger, name))
        try:
            is_new = books.add_grant(ledger, wanted, at_ns)
        except (books.GrantConflictError, ValueError) as error:
            raise Conflict(f"{error}.") from None
        return _known(ledger, name), is_new

    made, is_new = await call.console.ask(ask)
    row = _row(made)
    answer = {**row, "is_new": is_new}
    return Answer(answer, status=201 if is_new else 200, target=f"credits/{name}", after=row)


async def void_grant(call: Call) -> Answer:
    """Take away what is left of a grant; what was spent of it stays spent."""
    name = call.path["grant"]

    def ask(ledger: Ledger) -> tuple[Standing, books.Taken]:
        before = _known(ledger, name)
        return before, books.void_rest(ledger, name, now_ns=now_ns())

    before, taken = await call.console.ask(ask)
    body = {"id": name, **amounts("taken", taken.left_nano), "was_new": taken.is_new}
    return Answer(body, target=f"credits/{name}", before=_row(before), after=body)


def _wanted(body: Any, name: str, at_ns: int, known: Standing | None) -> Grant:
    """The grant of a body. A repeat that does not say from when on means what it said first."""
    begins = at_ns if known is None else known.grant.effective_at
    if (since := body.get("from")) is not None:
        begins = time_ns(since, "from")
    expires = body.get("expires_at")
    return Grant(
        id=name,
        tenant=body["tenant"],
        kind=body.get("kind", "promo"),
        priority=body.get("priority", PRIORITY),
        amount_nano=nano_of(body["amount_usd"], "amount_usd"),
        effective_at=begins,
        expires_at=None if expires is None else time_ns(expires, "expires_at"),
        source="manual",
        note=body.get("reference", ""),
    )


async def _balances(call: Call) -> list[books.Balance]:
    tenant = call.query.get("tenant")

    def ask(ledger: Ledger) -> list[books.Balance]:
        if tenant is not None:
            return [books.balance_of(ledger, tenant, now_ns())]
        return books.balances(ledger, now_ns())

    return await call.console.ask(ask)


def _known(ledger: Ledger, name: str) -> Standing:
    found = books.grant_of(ledger, name)
    if found is None:
        raise NotFound(f"There is no grant {name!r}.")
    return found


def _row(standing: Standing) -> dict[str, Any]:
    at_ns = now_ns()
    row = {name: each for name, each in grant_row(standing, at_ns).items() if name != "usd"}
    found = standing.seen_at(at_ns)
    return {
        **row,
        **amounts("amount", found.grant.amount_nano),
        **amounts("left", found.left_nano),
        **amounts("drawn", found.drawn_nano),
        **amounts("expired", found.expired_nano),
        **amounts("taken", found.taken_nano),
        **amounts("owed", found.owed_nano),
    }


_ONE = f"{BASE}/credits/{{grant}}"
_TEXT = {"type": "string", "maxLength": 200}

ROUTES = (
    Route(
        "GET",
        f"{BASE}/credits",
        Role.VIEWER,
        list_grants,
        summary="Every grant, in the order in which it is drawn from",
        tag="credits",
        query=(*PAGE, TENANT),
        answer=listed(),
    ),
    Route(
        "GET",
        f"{BASE}/credit-balances",
        Role.VIEWER,
        list_balances,
        summary="What each tenant has left",
        tag="credits",
        query=(*PAGE, TENANT),
        answer=listed(),
    ),
    Route("GET", _ONE, Role.VIEWER, show_grant, summary="One grant and its entries", tag="credits"),
    Route(
        "POST",
        f"{BASE}/credits",
        Role.BILLING,
        create_grant,
        summary="Give a tenant credit; a repeat under the same id changes nothing",
        tag="credits",
        body={
            "type": "object",
            "additionalProperties": False,
            "required": ["tenant", "amount_usd"],
            "properties": {
                "tenant": {"type": "string", "maxLength": 64},
                "amount_usd": AMOUNT,
                "id": _TEXT,
                "kind": {"enum": ["promo", "paid"]},
                "priority": {"type": "integer", "minimum": -1_000_000, "maximum": 1_000_000},
                "from": TIME,
                "expires_at": TIME,
                "reference": _TEXT,
            },
        },
        audit="credit.grant",
    ),
    Route(
        "POST",
        f"{_ONE}/void",
        Role.BILLING,
        void_grant,
        summary="Take away what is left of a grant",
        tag="credits",
        body={"type": "object", "additionalProperties": False, "properties": {}},
        audit="credit.void",
    ),
)
