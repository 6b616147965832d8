"""The main job as users do it: `weir serve`, a stock OpenAI SDK, and the bill for it.

One process tree for the whole file: embedded Redis, simulator, proxy, settlement worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import openai
import orjson
import pytest
from fixtures_weir import Weir, serving
from openai import AsyncOpenAI, OpenAI

from metering.money import usd_to_nano

pytestmark = [
    pytest.mark.timeout(60),
    # the SDK's own HTTP client leaves its sockets to the collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.xdist_group("weir"),
]

HI = [{"role": "user", "content": "Hi!"}]


@pytest.fixture
def client(weir: Weir) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{weir.url}/v1", api_key=weir.key) as made:
        yield made


def test_the_banner_shows_what_to_do_next(weir: Weir) -> None:
    """The first screen has the URL, the key, a curl line, and the next commands."""
    for wanted in (weir.url, weir.key, "curl", "weir usage", "weir invoice", "weir config check"):
        assert wanted in weir.banner
    key_file = next((weir.data_dir / "keys").glob("*"))
    assert key_file.stat().st_mode & 0o777 == 0o600


def test_a_plain_completion(client: OpenAI) -> None:
    """The sync SDK gets an answer with usage, and reads our request id."""
    answer = client.chat.completions.create(model="demo", messages=HI)

    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id is not None
    assert answer._request_id.startswith("req_")


def test_a_streamed_completion(client: OpenAI) -> None:
    """A stream has only the chunks the client asked for: none without choices."""
    chunks = list(client.chat.completions.create(model="demo", messages=HI, stream=True))

    assert all(chunk.choices for chunk in chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_streamed_completion_with_usage(client: OpenAI) -> None:
    """A client that asks for usage gets the usage chunk, last."""
    chunks = list(
        client.chat.completions.create(
            model="demo", messages=HI, stream=True, stream_options={"include_usage": True}
        )
    )

    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


async def test_the_async_sdk(weir: Weir) -> None:
    """Twenty streams at once through the async SDK all end, each with its own text."""

    async def one(number: int) -> str:
        text = ""
        stream = await client.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": f"number {number}"}],
            stream=True,
        )
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
        return text

    async with AsyncOpenAI(base_url=f"{weir.url}/v1", api_key=weir.key) as client:
        texts = await asyncio.gather(*(one(number) for number in range(20)))

    assert all(f"number {number}" in text for number, text in enumerate(texts))


def test_models(client: OpenAI) -> None:
    """The models of the configuration are listed and can be looked up."""
    names = {model.id for model in client.models.list()}

    assert {"demo", "demo-mini", "gpt-4o"} <= names
    assert client.models.retrieve("demo").id == "demo"


def test_errors_have_their_sdk_classes(weir: Weir, client: OpenAI) -> None:
    """The SDK raises the class that belongs to each refusal."""
    stranger = OpenAI(base_url=f"{weir.url}/v1", api_key="sk-weir-wrong", max_retries=0)
    once = client.with_options(max_retries=0)

    with pytest.raises(openai.AuthenticationError):
        stranger.chat.completions.create(model="demo", messages=HI)
    with pytest.raises(openai.NotFoundError) as unknown:
        once.chat.completions.create(model="no-such-model", messages=HI)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        once.chat.completions.create(model="demo", messages=HI, max_tokens=-1)
    assert wrong.value.param == "max_tokens"
    with pytest.raises(openai.RateLimitError):
        once.chat.completions.create(model="demo-429", messages=HI)
    with pytest.raises(openai.InternalServerError):
        once.chat.completions.create(model="demo-500", messages=HI)
    with pytest.raises(openai.InternalServerError) as keyless:
        client.chat.completions.create(model="gpt-4o", messages=HI)
    assert keyless.value.status_code == 503
    assert "OPENAI_API_KEY" in str(keyless.value)
    stranger.close()


def test_a_cut_stream_raises(client: OpenAI) -> None:
    """A stream that breaks in the middle is an error to the SDK, never a short answer."""
    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(model="demo-cut", messages=HI, stream=True))


@pytest.mark.parametrize("model", ["demo-no-usage", "demo-no-done"])
def test_odd_streams_end_well(client: OpenAI, model: str) -> None:
    """Without usage or without `[DONE]`, a finished stream is a finished stream."""
    chunks = list(client.chat.completions.create(model=model, messages=HI, stream=True))

    assert chunks[-1].choices[0].finish_reason == "stop"


CAPPED = """
server: {host: 127.0.0.1}
providers: {simulator: {type: simulator}}
models:
  dear: {upstreams: [{provider: simulator, model: demo}]}
  cheap: {upstreams: [{provider: simulator, model: demo-mini}]}
pricing:
  currency: USD
  rules:
    - {model: dear, input_rate: 0.000005, output_rate: 0.000015, multiplier: 2.0}
    - {model: cheap, input_rate: 0.0000005, output_rate: 0.000002, multiplier: 0.8}
tenants:
  - id: acme
    name: Acme
    limits: {tenant: {daily_cap: 0.01, burst_threshold: 0.5, fallback_model: cheap}}
    keys: [{id: k, mint: true}]
"""


@pytest.fixture
def capped(tmp_path: Path) -> Iterator[Weir]:
    """One tenant with a cap of a cent, two models, and processes of its own."""
    config = tmp_path / "config.yaml"
    config.write_text(CAPPED)
    with serving(tmp_path, config=config) as running:
        yield running


def test_from_first_token_to_last_cent(capped: Weir) -> None:
    """Dear, then degraded near the cap, then refused in one attempt; the invoice has all of it."""
    attempts: list[str] = []

    class Counting(openai.DefaultHttpxClient):
        def send(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            attempts.append("sent")
            return super().send(*args, **kwargs)

    seen: list[str] = []
    costs = 0

    def spend_it_all() -> None:
        nonlocal costs
        while True:
            attempts.clear()
            raw = client.chat.completions.with_raw_response.create(
                model="dear", messages=HI, max_tokens=60
            )
            seen.append(raw.headers["x-weir-model"])
            costs += usd_to_nano(Decimal(raw.headers["x-weir-cost-usd"]))

    with (
        OpenAI(base_url=f"{capped.url}/v1", api_key=capped.key, http_client=Counting()) as client,
        pytest.raises(openai.RateLimitError) as refused,
    ):
        spend_it_all()

    assert refused.value.code == "insufficient_quota"
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert len(attempts) == 1
    assert seen == sorted(seen, reverse=True)
    assert {"dear", "cheap"} == set(seen)
    usage = capped.settled(len(seen), "--tenant", "acme")
    invoice = capped.json("invoice", "--tenant", "acme")
    assert usage["totals"]["admission_nano"] == costs
    assert invoice["total_nano"] == costs
    assert sum(line["amount_nano"] for line in invoice["lines"]) == invoice["total_nano"]
    assert {line["model"] for line in invoice["lines"]} == {"demo", "demo-mini"}
    assert all(
        line["amount_nano"] * 1000 == line["quantity"] * line["rate_pico"]
        for line in invoice["lines"]
    )
    assert costs <= 10_000_000


def test_bill_and_usage_agree(weir: Weir, client: OpenAI) -> None:
    """What the answers said they used is what `weir usage` says, less what came before."""
    before = weir.settled(0, "--tenant", "demo")["totals"]
    used = [client.chat.completions.create(model="demo", messages=HI).usage for _ in range(3)]

    after = weir.settled(before["requests"] + 3, "--tenant", "demo")["totals"]

    for unit, name in (("input_uncached", "prompt_tokens"), ("output_text", "completion_tokens")):
        spent = after["units"][unit] - before["units"].get(unit, 0)
        assert spent == sum(getattr(each, name) for each in used)


def test_settlement_keeps_up(weir: Weir, client: OpenAI) -> None:
    """An idle system settles an answer within a second of its end."""
    before = weir.settled(0)["totals"]["requests"]
    client.chat.completions.create(model="demo", messages=HI)

    time.sleep(1.0)

    assert weir.json("usage")["totals"]["requests"] > before


def test_people_get_tables(weir: Weir, client: OpenAI) -> None:
    """Without `--json` the reports are tables that say how far they are settled."""
    client.chat.completions.create(model="demo", messages=HI)
    weir.settled(1)
    for words in (("usage",), ("invoice", "--tenant", "demo")):
        done = weir.run(*words)
        assert done.returncode == 0
        assert re.search(r"settled through .*, \d+ pending", done.stdout)


def test_exit_codes(weir: Weir) -> None:
    """3 for a tenant nobody knows, 2 for wrong usage."""
    assert weir.run("invoice", "--tenant", "nobody").returncode == 3
    assert weir.run("keys", "new", "--tenant", "nobody").returncode == 3
    assert weir.run("usage", "--since", "yesterday-ish").returncode == 2


def test_it_stops_cleanly(tmp_path: Path) -> None:
    """SIGTERM lets a running stream finish, books it, and leaves nothing running."""
    with serving(tmp_path) as running:
        with OpenAI(base_url=f"{running.url}/v1", api_key=running.key) as client:
            stream = client.chat.completions.create(model="demo", messages=HI, stream=True)
            chunks = [next(iter(stream))]
            running.process.terminate()
            chunks += list(stream)
        code = running.process.wait(30)

        assert code == 0
        assert chunks[-1].choices[0].finish_reason == "stop"
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{running.url}/healthz", timeout=1)
            raise AssertionError("still listening")
        assert not (running.data_dir / "redis.sock").exists()
        usage = running.json("usage")
        assert usage["totals"]["requests"] == 1


def test_logs_hold_no_secret_and_no_prompt(tmp_path: Path) -> None:
    """T-30: neither the key nor what was asked and answered stands in a log line."""
    canary = "canary-prompt-31337"
    with serving(tmp_path) as running:
        with OpenAI(base_url=f"{running.url}/v1", api_key=running.key, max_retries=0) as client:
            said = [{"role": "user", "content": canary}]
            client.chat.completions.create(model="demo", messages=said)
            list(client.chat.completions.create(model="demo", messages=said, stream=True))
            for model in ("demo-429", "demo-500", "demo-cut", "nope"):
                with contextlib.suppress(openai.APIError):
                    client.chat.completions.create(model=model, messages=said)
        running.stop()

        log = (tmp_path / "serve.log").read_text()
    assert "exchange" in log
    assert canary not in log
    assert running.key not in log
    exchanges = [orjson.loads(line) for line in log.splitlines() if '"exchange"' in line]
    assert all(line["request_id"].startswith("req_") for line in exchanges)
