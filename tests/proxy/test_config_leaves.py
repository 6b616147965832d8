"""What is shown of a configuration, and what it is compared by."""

from __future__ import annotations

from pathlib import Path

from config_samples import loaded

from proxy.config_decode import Findings, decode
from proxy.config_leaves import Leaf, shown_tree
from proxy.config_yaml import parse

SECRETS = """\
redis: {url: "redis://me:hidden-1@db:6379/0?password=hidden-2"}
providers:
  plain: {type: openai, api_key: hidden-3, base_url: "https://u:hidden-4@host/v1"}
  named: {type: openai, api_key: "${KEY:-hidden-5}"}
  own: {type: azure_openai, base_url: "https://x.openai.azure.com",
    options: {tenant_id: t, client_id: c, client_secret: hidden-6}}
tenants:
  - {id: a, keys: [{id: k, key: hidden-7}]}
alerts: {sinks: [{type: webhook, url: "https://hooks.example/hidden-8", secret: hidden-9-0123456}]}
stripe: {api_key: hidden-10, webhook_secrets: [hidden-11]}
cache: {salt: hidden-12-0123456789}
webhooks: [{name: w, url: "https://h.example/hidden-13", secret: hidden-14, events: [x]}]
egress: {proxy: "http://u:hidden-15@proxy:3128"}
"""


def _shown(text: str, **env: str) -> dict[str, object]:
    document = parse(text, env)
    return shown_tree(decode(Findings(document)), document)


def test_no_secret_is_shown() -> None:
    """Keys, passwords in addresses, addresses that let one write, defaults of variables."""
    tree = repr(_shown(SECRETS, KEY="hidden-16"))

    assert "hidden" not in tree
    assert "redis://me:***@db:6379/0?***" in tree
    assert "${KEY:-***}" in tree
    assert "https://hooks.example/***" in tree


def test_defaults_are_filled_in() -> None:
    """What is left out is there with its default, and numbers are numbers."""
    tree = _shown("server: {port: 1}\n")

    assert tree["server"]["port"] == 1  # type: ignore[index]
    assert tree["server"]["keepalive_s"] == 15  # type: ignore[index]
    assert tree["redis"]["outage_share"] == 0.1  # type: ignore[index]


def test_variables_stay_as_they_are_written() -> None:
    """Their values are nobody's business."""
    tree = _shown('server: {port: "${PORT:-8080}"}\ndata_dir: "${D}"\n', PORT="9", D="hidden")

    assert (tree["server"]["port"], tree["data_dir"]) == ("${PORT:-8080}", "${D}")  # type: ignore[index]


def test_a_provider_may_be_called_anything() -> None:
    """A name of your choice hides nothing."""
    assert _shown("providers: {secret: {type: simulator}}\n")["providers"]["secret"][  # type: ignore[index]
        "type"
    ] == ("simulator")


def _leaves(directory: Path, text: str, salt: bytes = b"s", **env: str) -> dict[str, Leaf]:
    from proxy.config import load

    loaded(directory, text, **env)
    told = load(directory / "config.yaml", env, salt=salt).told
    assert told is not None
    return dict(told.leaves)


def test_values_are_compared_by_what_they_mean(tmp_path: Path) -> None:
    """A default that is written out, another spelling, a variable: the same."""
    one = _leaves(tmp_path, "server: {port: 8080, max_drain_s: 20}\n")
    two = _leaves(tmp_path, 'server: {max_drain_s: "${X}"}\n', X="2e1")

    assert {key: leaf.same for key, leaf in one.items()} == {
        key: leaf.same for key, leaf in two.items()
    }


def test_hashes_are_keyed(tmp_path: Path) -> None:
    """Without the salt nobody can try passwords; another secret is another hash."""
    text = 'providers: {a: {type: openai, api_key: "${K}"}}\n'
    one, other = _leaves(tmp_path, text, K="1"), _leaves(tmp_path, text, K="2")
    salted = _leaves(tmp_path, text, b"t", K="1")

    key = "providers.a.api_key"
    assert len({one[key].same, other[key].same, salted[key].same}) == 3
    assert one[key].shown == other[key].shown == "${K}"


def test_items_go_by_their_names(tmp_path: Path) -> None:
    """One in front moves nothing."""
    one = _leaves(tmp_path, "tenants: [{id: a, name: A}]\n")
    two = _leaves(tmp_path, "tenants: [{id: b}, {id: a, name: A}]\n")

    assert one["tenants[a].name"] == two["tenants[a].name"]
