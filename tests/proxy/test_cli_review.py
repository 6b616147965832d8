"""`weir review`, as the person on duty uses it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fixtures_redis import RedisServer
from redis import Redis

from metering.redis_keys import RedisKeys
from metering.settlement.ledger.reviews import Item, begin_item, find_item, take_steps
from metering.settlement.ledger.store import Ledger, open_ledger
from metering.settlement.velocity import Cause, Finding
from metering.tolerances import Mode, Step
from proxy.cli import weir

NOW = 1_793_491_200_000_000_000
WHO = ("--by", "ann", "--reason", "a launch")
KEYS = RedisKeys(prefix="review")


@pytest.fixture
def config(tmp_path: Path, redis_server: RedisServer) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(
        f"data_dir: {tmp_path}\n"
        f"redis: {{url: 'unix://{redis_server.path}', prefix: {KEYS.prefix}}}\n",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def redis(redis_server: RedisServer) -> Any:
    client = Redis(unix_socket_path=str(redis_server.path))
    client.delete(KEYS.state("acme"))
    yield client
    client.close()


@pytest.fixture
def ledger(config: Path) -> Any:
    opened = open_ledger(f"sqlite:///{config.parent / 'ledger.db'}")
    opened.migrate()
    yield opened
    opened.close()


def _item(ledger: Ledger, *steps: Step, key: str = "", mode: Mode = Mode.ENFORCE) -> None:
    item = Item(
        id=0,
        shard=KEYS.shard("acme"),
        tenant="acme",
        api_key_id=key,
        mode=mode,
        since_min=NOW // 60_000_000_000,
        finding=Finding(Cause.SPEND, 20 * 10**9, 2 * 10**9, 4 * 10**9, "recent"),
        created_at=NOW,
        steps={},
        decisions=(),
    )
    assert begin_item(ledger, item)
    number = len(steps) and max(1, _newest(ledger))
    if steps:
        take_steps(ledger, number, choose=lambda _: steps, now_ns=NOW)


def _newest(ledger: Ledger) -> int:
    number = 1
    while find_item(ledger, number + 1) is not None:
        number += 1
    return number


def _run(config: Path, *words: str) -> Result:
    return CliRunner().invoke(weir, ["review", *words, "--config", str(config)])


def _json(config: Path, *words: str) -> Any:
    result = _run(config, *words, "--json")
    return json.loads(result.stdout or result.stderr)


PAUSED = (Step.ALERT, Step.PAUSE, Step.PAUSE_SET)
OURS = '{"by":"anomaly","why":"review item 1","at_ms":1}'


def test_what_waits_is_listed(config: Path, ledger: Ledger) -> None:
    """Shadow and what is over only with --all."""
    _item(ledger, *PAUSED)
    _item(ledger, Step.ALERT, Step.CALM, key="k1")
    _item(ledger, mode=Mode.SHADOW)

    assert [row["id"] for row in _json(config, "list")["review_items"]] == [1]
    assert [row["id"] for row in _json(config, "list", "--all")["review_items"]] == [1, 2, 3]
    assert _json(config, "list", "--all", "--tenant", "b") == {"review_items": []}
    text = _run(config, "list").stdout
    assert "acme" in text
    assert "20.000000" in text


def test_who_is_paused_is_listed_as_paused(config: Path, ledger: Ledger) -> None:
    """Also when the alarm is over and the degradation lifted: the pause waits for a decision."""
    _item(ledger, *PAUSED, Step.CALM, Step.DEGRADE_LIFTED)

    listed = _run(config, "list").stdout
    _run(config, "keep", "1", *WHO)
    kept = _run(config, "list", "--all").stdout

    assert "paused" in listed
    assert "lifted" not in listed
    assert "keep" in kept


def test_an_item_is_shown_with_its_story(config: Path, ledger: Ledger) -> None:
    """Numbers, steps, decisions; a number that is none is exit code 3."""
    _item(ledger, *PAUSED)
    _run(config, "keep", "1", *WHO)

    shown = _json(config, "show", "1")
    assert (shown["tenant"], shown["cause"], shown["seen_nano"]) == ("acme", "spend", 20 * 10**9)
    assert list(shown["steps"]) == ["alert", "pause", "pause_set"]
    assert [each["verdict"] for each in shown["decisions"]] == ["keep"]
    text = _run(config, "show", "1").stdout
    assert "keep by ann: a launch" in text
    assert "seen: $20.000000\n" in text
    assert "nano" not in text
    assert "2026-11-01T00:00:00Z pause" in text
    assert _run(config, "show", "9").exit_code == 3


@pytest.mark.parametrize("verdict", ["approve", "rebase"])
def test_who_is_let_go_goes_on_at_once(
    config: Path, ledger: Ledger, redis: Redis, verdict: str
) -> None:
    """The flag falls with the decision; the same again says so and does nothing."""
    _item(ledger, *PAUSED)
    state = KEYS.state("acme")
    redis.hset(state, mapping={"paused": OURS, "review:1:pause_set": OURS, "stage_min": "0"})

    first = _json(config, verdict, "1", *WHO)
    assert (first["was_new"], first["left_to_worker"]) == (True, False)
    assert redis.hgetall(state) == {b"stage_min": b"0"}
    assert "pause_lifted" in first["steps"]
    again = _run(config, verdict, "1", *WHO)
    assert (again.exit_code, again.stdout) == (0, f"1 {verdict} (as before)\n")
    assert _run(config, "keep", "1", *WHO).exit_code == 1


def test_a_rebase_takes_the_level_that_was_seen_or_named(config: Path, ledger: Ledger) -> None:
    """In USD per minute."""
    _item(ledger, Step.ALERT)
    _item(ledger, Step.ALERT, key="k1")

    seen = _json(config, "rebase", "1", *WHO)
    named = _json(config, "rebase", "2", "--level", "3.50", *WHO)
    levels = [each["decisions"][-1]["level_nano"] for each in (seen, named)]
    assert levels == [20 * 10**9, 3_500_000_000]


def test_keep_leaves_the_flag(config: Path, ledger: Ledger, redis: Redis) -> None:
    """It is off the list, and may be approved later."""
    _item(ledger, *PAUSED)
    redis.hset(KEYS.state("acme"), mapping={"paused": OURS, "review:1:pause_set": OURS})

    assert _run(config, "keep", "1", *WHO).exit_code == 0
    assert redis.hget(KEYS.state("acme"), "paused") == OURS.encode()
    assert _json(config, "list") == {"review_items": []}
    assert _run(config, "approve", "1", *WHO).exit_code == 0
    assert redis.hget(KEYS.state("acme"), "paused") is None


def test_a_decision_stands_without_redis(config: Path, ledger: Ledger) -> None:
    """The worker does the rest, and the command says so."""
    _item(ledger, *PAUSED)
    config.write_text(f"data_dir: {config.parent}\nredis: {{url: 'unix:///no/such/socket'}}\n")

    result = _run(config, "approve", "1", *WHO)
    assert result.exit_code == 0
    assert "the settlement worker will lift what is set" in result.stdout
    assert _json(config, "show", "1")["decisions"][0]["by"] == "ann"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("approve", "1", "--by", "ann", "--reason", " "), 2),
        (("approve", "1", "--by", "ann"), 2),
        (("rebase", "1", "--level", "-1", *WHO), 2),
        (("rebase", "1", "--level", "much", *WHO), 2),
        (("approve", "7", *WHO), 3),
    ],
)
def test_nothing_is_decided_without_who_and_why(
    config: Path, ledger: Ledger, words: tuple[str, ...], code: int
) -> None:
    """Nor about an item that is none."""
    _item(ledger, *PAUSED)

    assert _run(config, *words).exit_code == code
    assert _json(config, "show", "1")["decisions"] == []


def test_without_a_ledger_there_is_nothing_to_review(config: Path) -> None:
    """Exit code 3, as everywhere."""
    assert _run(config, "list").exit_code == 3
