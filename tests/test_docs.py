"""What can be set, typed, met or read stands in the documentation, and links lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest

from metering.caps import DenialReason
from metering.events import Kind, Reason, Status, UsageEvent
from metering.settlement.journal import Account
from metering.settlement.ledger import tables
from metering.usage import UNITS
from proxy.admin import catalogue
from proxy.cli import weir
from proxy.config import UNENFORCED
from proxy.config_decode import shape_keys
from proxy.errors import ApiError
from proxy.metrics_catalogue import CATALOGUE
from proxy.simulator_faults import BEHAVIOURS
from proxy.vendors import vendor, vendor_types

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CONFIGURATION = (DOCS / "configuration.md").read_text(encoding="utf-8")
CLI = (DOCS / "cli.md").read_text(encoding="utf-8")
ROWS = {
    match[1]: match[0]
    for match in re.finditer(r"^\| `([^`]+)` \|.*$", CONFIGURATION, flags=re.MULTILINE)
}


def test_every_key_is_documented() -> None:
    """Every key of the file has a row, and every row is a key."""
    assert sorted(ROWS) == sorted(shape_keys())


def test_every_unenforced_key_says_so() -> None:
    """A key that does nothing yet is marked where it is explained, and no other is."""
    patterns = [
        re.compile(re.escape(pattern).replace(r"\*", "[a-z_*]+")) for pattern, _, _ in UNENFORCED
    ]

    for key, row in ROWS.items():
        path = key.replace("[]", ".*").replace("NAME", "*")
        sleeps = any(pattern.fullmatch(path) for pattern in patterns)
        assert ("Not enforced yet" in row) is sleeps, key


def _commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    for each, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{name} {each}")
        else:
            yield f"{name} {each}", command


@pytest.mark.parametrize(("name", "command"), list(_commands(weir, "weir")))
def test_every_command_is_documented(name: str, command: click.Command) -> None:
    """Every command has a section, and its options stand there or among those of all commands."""
    everywhere, *_ = CLI.split("\n## ", 1)
    section = CLI.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    options = [
        option
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    ]

    assert section
    assert [option for option in options if f"`{option}" not in section + everywhere] == []


PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])

WRITTEN_LATER: frozenset[str] = frozenset()
"""Pages that are linked before they exist."""

READERS_PATHS = frozenset(
    {
        "v1",
        "healthz",
        "readyz",
        "models",
        "metrics",
        "webhooks",
        "admin",
        "dashboard",
        "exchanges",
        "etc",
        "bin",
        "tmp",
        "opt",
        "var",
    }
)


def _page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def _first_cells(page: str) -> set[str]:
    """What stands in backticks in the first cell of a table's rows."""
    rows = re.findall(r"^\| ([^|]+) \|", page, flags=re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def _refusals(kind: type[ApiError] = ApiError) -> Iterator[type[ApiError]]:
    for each in kind.__subclasses__():
        yield each
        yield from _refusals(each)


@pytest.mark.parametrize("refusal", list(_refusals()), ids=lambda refusal: refusal.__name__)
def test_every_error_is_documented(refusal: type[ApiError]) -> None:
    """Every refusal has a row with its code and status."""
    name = refusal.code or f"null` (type `{refusal.type}"

    assert f"| `{name}`" in _page("http")
    assert re.search(rf"^\| `{re.escape(name)}[^|]*\| {refusal.status} \|", _page("http"), re.M)


def test_every_admin_route_has_a_row() -> None:
    """Its role, what it does and what the audit trail calls it stand beside it, and none more."""
    rows = re.findall(
        r"^\| `([A-Z]+ /admin/v1[^`]*)` \|([^|]*)\|([^|]*)\|([^|]*)\|", _page("admin-api"), re.M
    )
    told = {at: (role.strip(), about.strip(), audit.strip(" `")) for at, role, about, audit in rows}

    assert told == {
        f"{each.method} {each.path}": (each.role.value, each.summary, each.audit or "")
        for each in catalogue.routes()
        if each.path.startswith("/admin/v1")
    }


def test_no_error_is_made_up() -> None:
    """A code in the table of errors is one that a refusal has."""
    table = _page("http").partition("\n## Errors\n")[2].partition("\n| Reason |")[0]
    codes = {refusal.code for refusal in _refusals()}

    assert _first_cells(table) - {"null", "invalid_request_error"} == codes - {None}


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("http", list(DenialReason)),
        ("events", [field.name for field in fields(UsageEvent)]),
        ("events", [*Status, *Reason]),
        ("ledger", [*tables.metadata.tables, *Account]),
        ("simulator", list(BEHAVIOURS)),
        ("metrics", [metric.name for metric in CATALOGUE]),
        ("redis", [path.stem for path in (ROOT / "metering/lua").glob("*.lua")]),
    ],
    ids=["denials", "event-fields", "event-words", "ledger", "simulator", "metrics", "scripts"],
)
def test_every_name_has_a_row(page: str, names: list[str]) -> None:
    """What the code can say has a row in the page about it."""
    shared = {
        "scopes",
        "holding",
        "admission",
        "spending",
    }  # put before other scripts; no verbs of their own

    assert [name for name in names if name not in _first_cells(_page(page)) | shared] == []


def test_every_fault_of_an_event_is_documented() -> None:
    """What an item of `POST /v1/events` can be told has a row, and every row is one of these."""
    sources = [(ROOT / f"proxy/{name}.py").read_text() for name in EVENT_SOURCES]
    said = {code for source in sources for code in re.findall(r'ItemError\(\s*"(\w+)"', source)}
    said |= {code for source in sources for code in re.findall(r'code="(\w+)"', source)}
    rows = _page("events-api").partition("\n| Code |")[2].partition("\n\n")[0]

    assert _first_cells(rows) == said


EVENT_SOURCES = ("event_items", "event_booking", "events_api")


def test_no_metric_is_made_up() -> None:
    """Every metric that the page names is one, with the labels that stand beside it."""
    page = _page("metrics")
    rows = re.findall(r"^\| `(weir_\w+)` \| (\w+) \| ([^|]*)\|", page, flags=re.MULTILINE)

    assert [(name, kind, re.findall(r"`(\w+)`", labels)) for name, kind, labels in rows] == [
        (metric.name, metric.kind, list(metric.labels)) for metric in CATALOGUE
    ]
    assert set(re.findall(r"weir_\w+", page)) == {metric.name for metric in CATALOGUE}


def test_every_unit_and_kind_is_documented() -> None:
    """Units that we count and kinds of events are explained."""
    said = set(re.findall(r"`([^`]+)`", _page("events")))
    counted = [unit for unit in UNITS if unit.startswith(("input", "output", "api_", "infer"))]

    assert [name for name in [*counted, *Kind] if name not in said] == []


@pytest.mark.parametrize("header", ["x-weir-", "x-should-retry", "x-request-id"])
def test_every_header_is_documented(header: str) -> None:
    """Every header that the source names stands in the page about HTTP."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "proxy").rglob("*.py")]
    named = {
        found
        for source in sources
        for found in re.findall(rf'"({re.escape(header)}[a-z-]*)"', source)
        if not found.endswith("-")
    }

    assert named == {name for name in named if f"`{name}`" in _page("http")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link leads to a file, and every anchor to a heading."""
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", text)
    dead = []
    for link in (markdown or html for markdown, html in links):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if str(target.relative_to(ROOT)) in WRITTEN_LATER and not target.exists():
            continue
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            dead.append(link)

    assert dead == []


def test_pages_written_later_are_still_missing() -> None:
    """The list of pages to come shrinks as they come."""
    assert [name for name in WRITTEN_LATER if (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_name_only_what_readers_have(page: Path) -> None:
    """Absolute paths are those of our HTTP API or of every Linux; addresses are loopback's."""
    text = page.read_text(encoding="utf-8")
    heads = set(re.findall(r"(?<![\w.:/~)`>\]}*-])/([a-zA-Z]\w*)|`/([a-zA-Z]\w*)", text))
    hosts = set(re.findall(r"\b\d{1,3}(?:\.\d{1,3}){3}\b", text))

    assert {first or second for first, second in heads} <= READERS_PATHS
    assert hosts <= {"127.0.0.1", "0.0.0.0"}


def test_decisions_are_numbered() -> None:
    """Decisions count from 0001 without gaps, and each says why, what, and what follows."""
    decisions = sorted((DOCS / "decisions").glob("*.md"))

    assert [path.name[:4] for path in decisions] == [
        f"{number:04d}" for number in range(1, len(decisions) + 1)
    ]
    for path in decisions:
        headings = re.findall(r"^## (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert headings == ["Context", "Choice", "Consequences"], path.name


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("name", vendor_types())
def test_every_vendor_is_documented(name: str) -> None:
    """Every value of `providers.NAME.type` has a row, and its options stand on some page."""
    pages = "".join(
        page.read_text(encoding="utf-8")
        for page in [*DOCS.glob("*.md"), *DOCS.glob("formats/*.md")]
    )

    assert name in _first_cells(_page("providers"))
    assert [option for option in vendor(name).OPTIONS if f"`{option}`" not in pages] == []
