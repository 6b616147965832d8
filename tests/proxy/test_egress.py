"""Which hosts go through the forward proxy, and how its address is read."""

from __future__ import annotations

import pytest

from proxy.egress import check_no_proxy, parse_forward_proxy, proxy_for
from proxy.settings import Egress, ForwardProxy, Secret

FORWARD = ForwardProxy("proxy.example", 3128)
DIRECT = [
    ("localhost", ()),
    ("simulator.localhost", ()),
    ("127.0.0.1", ()),
    ("127.8.8.8", ()),
    ("::1", ()),
    ("api.internal", ("internal",)),
    ("internal", ("internal",)),
    ("api.internal", (".internal",)),
    ("api.internal", ("*.internal",)),
    ("api.internal", ("API.Internal",)),
    ("10.1.2.3", ("10.0.0.0/8",)),
    ("10.1.2.3", ("10.1.2.3",)),
    ("fd00::7", ("fd00::/8",)),
]
THROUGH = [
    ("api.openai.com", ()),
    ("notinternal", ("internal",)),
    ("internal.example", ("internal",)),
    ("11.1.2.3", ("10.0.0.0/8",)),
    ("10.1.2.3.example", ("10.0.0.0/8",)),
    ("10.1.2.3", ("fd00::/8",)),
    ("localhost.example", ()),
]


@pytest.mark.parametrize(("host", "no_proxy"), DIRECT)
def test_hosts_that_are_reached_directly(host: str, no_proxy: tuple[str, ...]) -> None:
    """This machine, and what `no_proxy` names: a name and those below it, addresses, networks."""
    assert proxy_for(Egress(FORWARD, no_proxy=no_proxy), host) is None


@pytest.mark.parametrize(("host", "no_proxy"), THROUGH)
def test_hosts_that_are_reached_through_it(host: str, no_proxy: tuple[str, ...]) -> None:
    """Everything else, and what only looks like an entry."""
    assert proxy_for(Egress(FORWARD, no_proxy=no_proxy), host) is FORWARD


def test_without_a_proxy_all_is_direct() -> None:
    """The default."""
    assert proxy_for(Egress(), "api.openai.com") is None


def test_credentials_are_a_secret() -> None:
    """They are decoded, kept as the header they become, and not shown."""
    forward = parse_forward_proxy("http://me:p%40ss@[::1]:3128/")

    assert forward == ForwardProxy("::1", 3128, Secret("Basic bWU6cEBzcw=="))
    assert "bWU6" not in repr(forward)


@pytest.mark.parametrize(
    "url",
    [
        "proxy.example:3128",
        "http://me:canary@proxy.example",
        "http://me:canary@proxy.example:0x50",
        "https://me:canary@proxy.example:443",
        "socks5://me:canary@proxy.example:1080",
        "http://me:canary@proxy.example:3128/path",
        "http://me:canary@proxy.example:3128?x",
        "http://:3128",
        "http://[::1:3128",
    ],
)
def test_what_is_no_proxy(url: str) -> None:
    """The message says what is wanted and nothing of the URL, which may hold a password."""
    with pytest.raises(ValueError, match="must b") as caught:
        parse_forward_proxy(url)

    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "entry", ["", "*", ".", "http://x", "a b", "x:80", "ä.example", "10.0.0.0/99"]
)
def test_what_is_no_host(entry: str) -> None:
    """A URL, a port or a blank among the hosts is a slip."""
    with pytest.raises(ValueError, match="must be a host name"):
        check_no_proxy(entry)
