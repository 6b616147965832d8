"""Loading: the example, the published template, every fault at once, and what settings come out."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from config_samples import BASE, faults, loaded

from metering.tenants import ApiKey, SpendLimits
from metering.usage import INPUT_CACHE_READ
from proxy.config import (
    UNENFORCED,
    ConfigFaults,
    ConfigNotFound,
    find_config,
    load,
)
from proxy.config_decode import shape_keys
from proxy.settings import MintedKey, Secret

ROOT = Path(__file__).parents[2]
KEY_SHA256 = "ab" * 32


def test_the_example_loads_without_any_variable() -> None:
    """The shipped file needs no variable; OpenAI's routes are just not available."""
    result = load(ROOT / "config.yaml", {})

    openai = result.settings.providers["openai"]
    assert openai.unavailable == "environment variable OPENAI_API_KEY is not set"
    assert [warning.path for warning in result.warnings] == ["providers.openai.api_key"]
    assert result.unenforced == ()
    assert result.settings.minted_keys == (MintedKey("demo", "demo", "default"),)


def test_the_example_with_a_key() -> None:
    """With the variable set nothing is left to say, and the key prints as stars."""
    result = load(ROOT / "config.yaml", {"OPENAI_API_KEY": "sk-real"})

    openai = result.settings.providers["openai"]
    assert (openai.unavailable, openai.api_key) == (None, Secret("sk-real"))
    assert openai.base_url == "https://api.openai.com/v1"
    assert "sk-real" not in repr(result)
    assert result.warnings == ()


def test_the_example_prices_every_upstream() -> None:
    """Every route of the example has a price, and the cheaper model is cheaper."""
    settings = load(ROOT / "config.yaml", {}).settings

    prices = {
        upstream.model: settings.prices.find(
            provider=upstream.provider, model=upstream.model, public_name=upstream.public_name
        )
        for model in settings.models.values()
        for upstream in model.upstreams
    }
    assert None not in prices.values()
    demo, mini = prices["demo"], prices["demo-mini"]
    assert demo is not None
    assert mini is not None
    assert mini.sell.rates_pico["output_text"] < demo.sell.rates_pico["output_text"]


TEMPLATE = """\
pricing:
  currency: USD
  rounding: nearest_cent
  rules:
    - {model: gpt-4o, input_rate: 0.000005, output_rate: 0.000015, multiplier: 1.0}
    - {model: claude-3-5-sonnet, input_rate: 0.000003, output_rate: 0.000015, multiplier: 1.0}
    - {model: fallback-llama-3, input_rate: 0.0000005, output_rate: 0.000002, multiplier: 0.8}
limits:
  tenant: {daily_cap: 50.00, burst_threshold: 0.8, fallback_model: fallback-llama-3}
  feature: {max_context_tokens: 128000, cache_ttl_seconds: 3600, exclude_cache_from_billing: true}
metering:
  queue: ai-metering-events
  consumer_concurrency: 8
  idempotency_window_hours: 24
  reconciliation_schedule: "0 2 * * *"
"""


def test_the_published_template_loads(tmp_path: Path) -> None:
    """A file of prices, limits and metering alone loads, saying what it lacks and what sleeps."""
    result = loaded(tmp_path, TEMPLATE)

    llama = result.settings.prices.find(provider="x", model="fallback-llama-3", public_name="y")
    assert llama is not None
    assert (llama.cost.rates_pico["output_text"], llama.sell.rates_pico["output_text"]) == (
        2_000_000,
        1_600_000,
    )
    assert result.settings.metering.queue == "ai-metering-events"
    assert [each.path for each in result.warnings] == [
        "models",
        "tenants",
        "limits.tenant.fallback_model",
        "limits.feature.cache_ttl_seconds",
        "limits.feature.exclude_cache_from_billing",
    ]
    assert [each.path.rpartition(".")[2] for each in result.unenforced] == [
        "consumer_concurrency",
    ]


def test_prices_of_a_provider_load_without_providers(tmp_path: Path) -> None:
    """A template may name the provider of a price; that is known only once there are some."""
    path = tmp_path / "template.yaml"
    path.write_text(
        "pricing: {rules: [{model: m, provider: openai, input_rate: 1e-6, output_rate: 1e-6}]}\n"
    )

    warnings = [each.message for each in load(path, {}).warnings]

    assert "unknown provider 'openai'" in warnings


def test_an_empty_file_says_so(tmp_path: Path) -> None:
    """One warning, and no talk of sections."""
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n")

    (warning,) = load(path, {}).warnings

    assert warning.message.startswith("the file is empty")


def test_an_empty_file_loads(tmp_path: Path) -> None:
    """Every section may be missing or empty; then the defaults hold."""
    for text in ("", "# nothing yet\n", "server:\nmodels:\ntenants:\n"):
        settings = loaded(tmp_path, text).settings

        assert settings.data_dir == tmp_path / ".weir"
        assert settings.ledger_url == f"sqlite:///{tmp_path}/.weir/ledger.db"
        assert (settings.server.port, settings.redis.url) == (8080, None)


def test_settings(tmp_path: Path) -> None:
    """Routes, rates and limits arrive as the rooms' own values."""
    settings = loaded(
        tmp_path,
        BASE
        + """
server: {port: "${PORT:-9000}"}
data_dir: state
redis: {url: "redis://:${PASSWORD}@cache:6379/0"}
limits: {default_output_tokens: 512}
tenants:
  - {id: acme, name: Acme Inc., models: [big], projects: [{id: web}],
     limits: {tenant: {daily_cap: 12.5, burst_threshold: 0.8, fallback_model: small}},
     keys: [{id: k1, project: web, sha256: """
        + KEY_SHA256.upper()
        + """}, {id: k2, key: "${CLIENT_KEY}"}]}
""",
        PASSWORD="hidden",
        CLIENT_KEY="sk-client",
    ).settings

    acme = settings.tenants["acme"]
    assert acme.limits == SpendLimits(12_500_000_000, 800_000, "small")
    assert acme.keys == (
        ApiKey("k1", KEY_SHA256, "web"),
        ApiKey("k2", hashlib.sha256(b"sk-client").hexdigest(), "default"),
    )
    assert (acme.projects, acme.may_use("small")) == ({"web": "web", "default": "default"}, False)
    assert [each.label for each in settings.models["big"].upstreams] == ["sim/up-big"]
    assert (settings.server.port, settings.default_output_tokens) == (9000, 512)
    assert settings.data_dir == tmp_path / "state"
    assert settings.redis.url == Secret("redis://:hidden@cache:6379/0")
    rule = settings.prices.rules[0]
    assert (rule.input_rate_pico, rule.output_rate_pico) == (2_000_000, 5_000_000)
    assert (rule.class_rates_pico, rule.multiplier_ppm) == ({INPUT_CACHE_READ: 500_000}, 1_250_000)


def test_a_data_dir_given_on_the_command_line_moves_the_ledger(tmp_path: Path) -> None:
    """The default ledger lies in the data directory, wherever that was set."""
    path = tmp_path / "config.yaml"
    path.write_text("data_dir: here\n")

    settings = load(path, {}, data_dir=tmp_path / "there").settings

    assert settings.ledger_url == f"sqlite:///{tmp_path}/there/ledger.db"


def test_a_provider_with_an_empty_key_is_unavailable(tmp_path: Path) -> None:
    """A variable that is set to nothing is no credential."""
    text = 'providers: {openai: {type: openai, api_key: "${KEY}"}}\n'

    assert loaded(tmp_path, text, KEY="").settings.providers["openai"].unavailable


FAULTS: dict[str, tuple[str, list[str]]] = {
    "unknown section": ("modles: {}\n", ["1:1 modles: unknown key (did you mean 'models'?)"]),
    "unknown key": (
        "server: {prot: 1}\n",
        ["1:10 server.prot: unknown key (did you mean 'port'?)"],
    ),
    "wrong type": ("server:\n  port: http\n", ["2:9 server.port: must be a whole number"]),
    "too high": ("server: {port: 99999}\n", ["1:16 server.port: must be at most 65535"]),
    "no mapping": ("server: 8080\n", ["1:9 server: must be a mapping"]),
    "no list": ("tenants: {id: a}\n", ["1:1 tenants: must be a list (write [ ... ])"]),
    "root": ("- a\n", ["1:1 the file must be a mapping of sections"]),
    "choice": (
        "providers: {a: {type: opnai}}\n",
        ["1:23 providers.a.type: unknown vendor 'opnai' (did you mean 'openai'?)"],
    ),
    "missing": ("providers: {a: {}}\n", ["1:13 providers.a.type: is missing"]),
    "unset": (
        "ledger: {url: os.environ/LEDGER}\n",
        [
            (
                "1:15 ledger.url: environment variable LEDGER is not set "
                "(set it, or write ${LEDGER:-default})"
            )
        ],
    ),
    "base url": (
        "providers: {a: {type: openai, base_url: api.x.com}}\n",
        [
            (
                "1:41 providers.a.base_url: must be an http or https URL without credentials "
                "and query (write it like https://api.openai.com/v1)"
            )
        ],
    ),
    "ledger": (
        "ledger: {url: postgres://u:pw@h/d}\n",
        ["1:15 ledger.url: must begin with sqlite: or postgresql: (did you mean 'postgresql'?)"],
    ),
    "currency": (
        "pricing: {currency: EUR}\n",
        ["1:21 pricing.currency: currency 'EUR' is not supported (use USD)"],
    ),
    "rounding": (
        "pricing: {rounding: up}\n",
        ["1:21 pricing.rounding: must be 'nearest_cent' (known: nearest_cent)"],
    ),
    "schedule": (
        "metering: {reconciliation_schedule: daily}\n",
        [
            (
                "1:37 metering.reconciliation_schedule: 'daily' is not a schedule of five cron "
                'fields (write "0 2 * * *" for two in the morning, UTC)'
            )
        ],
    ),
}


@pytest.mark.parametrize(("text", "expected"), FAULTS.values(), ids=FAULTS)
def test_faults(tmp_path: Path, text: str, expected: list[str]) -> None:
    """Each mistake is one fault: where, what, and what to write."""
    assert faults(tmp_path, text) == expected


MANY = """\
server: {prot: 8080, workers: "3"}
server: {}
models:
  a: {upstreams: [{provider: nope, model: x}, 5, {model: y}], fallbacks: [b, 7]}
  c:
pricing:
  rules: [{model: z, input_rate: 2.5, output_per_mtok: -1}]
tenants:
  - {id: "a b", limits: {tenant: {burst_threshold: 80, daily_cap: 5}}, models: [a, d]}
"""


def test_all_faults_at_once(tmp_path: Path) -> None:
    """Duplicates, unknown keys, wrong types and broken references come in one list, in order."""
    found = [each.partition(":")[0] + " " + each.split()[1] for each in faults(tmp_path, MANY)]

    assert found == [
        "1 server.prot:",
        "1 server.workers:",
        "2 server:",
        "4 models.a.upstreams[0].provider:",
        "4 models.a.upstreams[1]:",
        "4 models.a.upstreams[2].provider:",
        "4 models.a.fallbacks[0]:",
        "4 models.a.fallbacks[1]:",
        "5 models.c.upstreams:",
        "7 pricing.rules[0].input_rate:",
        "7 pricing.rules[0].output_per_mtok:",
        "9 tenants[0].id:",
        "9 tenants[0].limits.tenant.burst_threshold:",
        "9 tenants[0].models[1]:",
    ]


def test_unreadable_files(tmp_path: Path) -> None:
    """A file that cannot be read or is no text is a fault like any other."""
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"a: 1\nb: \xff\n")

    for path, message in ((tmp_path, "cannot be read"), (binary, "not UTF-8 text")):
        with pytest.raises(ConfigFaults, match=message):
            load(path, {})


def test_every_unenforced_key_exists() -> None:
    """The table of keys without effect names keys of the shape only."""
    keys = {key.replace("[]", ".*").replace("NAME", "*") for key in shape_keys()}
    features = ("max_context_tokens", "cache_ttl_seconds", "exclude_cache_from_billing")

    for pattern, reason, _ in UNENFORCED:
        names = [pattern.removesuffix("*") + each for each in features]
        assert reason
        assert pattern in keys or set(names) <= keys


VALUES: dict[str, tuple[str, list[str]]] = {
    "outages": ("redis: {on_outage: open, outage_share: 0.2}\n", []),
    "metrics": ("server: {metrics_port: 9090}\n", []),
    "nothing written": ("", []),
    "spool": ("metering: {spool: outage}\n", []),
    "a schedule": (
        'metering: {reconciliation_schedule: "0 2 * * *"}\n',
        [],
    ),
}


@pytest.mark.parametrize(("text", "paths"), VALUES.values(), ids=VALUES)
def test_unenforced_keys(tmp_path: Path, text: str, paths: list[str]) -> None:
    """Only keys that were written, with a value that promises more than happens, are listed."""
    assert [each.path for each in loaded(tmp_path, text).unenforced] == paths


def test_find_config(tmp_path: Path) -> None:
    """A named file is the only one tried; otherwise the usual places, nearest first."""
    home = tmp_path / "home"
    own = home / ".config" / "tokenweir" / "config.yaml"
    own.parent.mkdir(parents=True)
    own.touch()
    named = tmp_path / "other.yaml"
    named.touch()
    env: dict[str, Any] = {"HOME": str(home)}

    assert find_config(None, env, tmp_path) == own
    (tmp_path / "config.yaml").touch()
    assert find_config(None, env, tmp_path) == tmp_path / "config.yaml"
    assert find_config(None, env | {"WEIR_CONFIG": "other.yaml"}, tmp_path) == named
    assert (
        find_config("config.yaml", env | {"WEIR_CONFIG": str(named)}, tmp_path).name
        == "config.yaml"
    )


def test_config_not_found(tmp_path: Path) -> None:
    """What was tried is said in the order of trying."""
    with pytest.raises(ConfigNotFound) as usual:
        find_config(None, {"HOME": "/nowhere"}, tmp_path)
    with pytest.raises(ConfigNotFound) as named:
        find_config("missing.yaml", {}, tmp_path)

    assert [str(path) for path in usual.value.tried] == [
        f"{tmp_path}/config.yaml",
        "/nowhere/.config/tokenweir/config.yaml",
        "/etc/tokenweir/config.yaml",
    ]
    assert named.value.tried == (tmp_path / "missing.yaml",)
