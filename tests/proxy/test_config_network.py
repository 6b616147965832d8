"""Connections in the configuration: addresses as people write them, and files that can be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_samples import BASE, faults, loaded
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from fixtures_tls import Authority

from proxy.settings import Secret, Tls


def with_url(url: str) -> str:
    return BASE.replace("{type: simulator}", f'{{type: openai, base_url: "{url}"}}')


@pytest.mark.parametrize(
    "url",
    [
        "http://0x7f.1/v1",
        "http://2130706433/v1",
        "http://0177.0.0.1/v1",
        "http://127.1/v1",
        "http://127.0.0.1./v1",
        "http://0x7f000001",
        "http://1.2.3.4.5/v1",
        "http://example.0x1/v1",
        "http://[::ffff:127.0.0.1]/v1",
        "http://[::ffff:7f00:1]/v1",
        "http://[fe80::1%25eth0]/v1",
    ],
)
def test_t22_an_address_in_disguise_is_a_fault(tmp_path: Path, url: str) -> None:
    """T-22: what the resolver takes for an address must read as that address."""
    [fault] = faults(tmp_path, with_url(url))

    assert fault.startswith("2:")
    assert "providers.sim.base_url: its host is an address in disguise" in fault


@pytest.mark.parametrize(
    "url",
    [
        "http://u:p@x/v1",
        "http://x/v1?y",
        "http://x/v1#y",
        "ftp://x",
        "http:///v1",
        "http://x:99999/",
        "http://exämple.org/v1",
        "http://x/v 1",
        "http://x/\\tv1",
        "http://x\\nHost: y/v1",
        "http://[::1/v1",
    ],
)
def test_t22_a_url_that_is_none_is_a_fault(tmp_path: Path, url: str) -> None:
    """T-22: parsers must not be able to disagree about where it leads."""
    [fault] = faults(tmp_path, with_url(url))

    assert "must be an http or https URL without credentials and query" in fault


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/v1",
        "http://[::1]:8000/v1",
        "http://[2001:db8::1]/v1",
        "https://api.openai.com/v1",
        "https://vllm-2/v1",
        "https://4ever.example/v1",
        "http://under_score/v1",
    ],
)
def test_addresses_as_people_write_them(tmp_path: Path, url: str) -> None:
    """Names, four decimal numbers, IPv6 in brackets."""
    assert loaded(tmp_path, with_url(url)).settings.providers["sim"].base_url == url


def test_tls_and_egress_as_written(tmp_path: Path, authority: Authority) -> None:
    """Files are relative to the configuration; the proxy's password is a secret."""
    cert, key = authority.files("weir.example")
    text = f"""\
server: {{tls: {{cert_file: {cert.name}, key_file: {key.name}, min_version: TLSv1.3}}}}
egress:
  proxy: ${{OUT}}
  ca_file: {authority.ca_file.name}
  no_proxy: [internal, 10.0.0.0/8]
{BASE.replace("{type: simulator}", "{type: openai, ca_file: ca.pem}")}"""

    settings = loaded(tmp_path, text, OUT="http://me:canary@proxy.example:3128").settings

    assert settings.server.tls == Tls(tmp_path / cert.name, tmp_path / key.name, "TLSv1.3")
    assert settings.egress.ca_file == settings.providers["sim"].ca_file == tmp_path / "ca.pem"
    assert settings.egress.no_proxy == ("internal", "10.0.0.0/8")
    assert settings.egress.proxy is not None
    assert isinstance(settings.egress.proxy.authorization, Secret)
    assert "canary" not in repr(settings)


def test_an_empty_proxy_is_none(tmp_path: Path) -> None:
    """`proxy: ${HTTPS_PROXY:-}` asks for the variable by name, and takes none for none."""
    text = "egress: {proxy: '${HTTPS_PROXY:-}'}\n" + BASE

    assert loaded(tmp_path, text).settings.egress.proxy is None


def test_a_clear_password_is_warned_about(tmp_path: Path) -> None:
    """As with providers' keys; the warning does not show it."""
    text = "egress: {proxy: 'http://me:canary@proxy.example:3128'}\n" + BASE

    warnings = "\n".join(map(str, loaded(tmp_path, text).warnings))

    assert "egress.proxy: a credential in clear text" in warnings
    assert "canary" not in warnings


def encrypted(key: Path) -> None:
    """The same key, behind a password."""
    plain = load_pem_private_key(key.read_bytes(), None)
    behind = BestAvailableEncryption(b"x")
    key.write_bytes(plain.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, behind))


def test_every_way_a_file_can_be_wrong(tmp_path: Path, authority: Authority) -> None:
    """Each is a fault at its key that says what is wrong with which file."""
    cert, key = authority.files("weir.example")
    _, other_key = authority.files("other.example")
    text = (
        "server:\n  tls:\n    cert_file: weir.example.pem\n    key_file: weir.example.key\n" + BASE
    )
    good = cert.read_bytes(), key.read_bytes()
    assert loaded(tmp_path, text).settings.server.tls is not None

    def wrong() -> str:
        [fault] = faults(tmp_path, text)
        cert.write_bytes(good[0])
        key.write_bytes(good[1])
        return fault

    cert.unlink()
    assert f"server.tls.cert_file: {cert} cannot be read: No such file" in wrong()
    key.unlink()
    assert wrong().startswith("4:15 server.tls.key_file:")
    cert.write_text("nothing of the kind")
    assert "server.tls.cert_file: holds no certificate in PEM form" in wrong()
    key.write_text("nothing of the kind")
    assert "server.tls.key_file: holds no private key in PEM form" in wrong()
    key.write_bytes(other_key.read_bytes())
    assert "server.tls.key_file: is not the key of the certificate" in wrong()
    encrypted(key)
    assert "server.tls.key_file: is encrypted" in wrong()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("egress: {ca_file: missing.pem}", "egress.ca_file: "),
        ('egress: {ca_file: "a\\0b"}', "egress.ca_file: is not the path of a file"),
        ("egress: {ca_file: config.yaml}", "egress.ca_file: holds no certificate in PEM form"),
        ("egress: {proxy: 'socks5://me:canary@x:1'}", "egress.proxy: must be http://[user:"),
        ("egress: {proxy: 'https://me:canary@x:1'}", "egress.proxy: must begin with http:"),
        ("egress: {no_proxy: ['http://x']}", "egress.no_proxy[0]: must be a host name"),
        ("server: {tls: {cert_file: a.pem}}", "server.tls.key_file: is missing"),
        ("server: {tls: {cert_file: a, key_file: b, min_version: TLSv1.1}}", "min_version: must"),
        ("server: {tls: {cert_file: a, key_file: b, verify: false}}", "tls.verify: unknown key"),
        ("egress: {verify: false}", "egress.verify: unknown key"),
    ],
)
def test_other_faults_of_connections(tmp_path: Path, text: str, fault: str) -> None:
    """Each at its place; there is no key that skips the verification of an upstream."""
    found = faults(tmp_path, f"{text}\n{BASE}")

    assert any(fault in each for each in found), found
    assert not any("canary" in each for each in found)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "0.0.0.0",
        "::",
        "fe80::1%eth0",
        "localhost",
        "proxy.internal",
        "a_b-c.",
        "bücher",
    ],
)
def test_a_host_to_listen_on(tmp_path: Path, host: str) -> None:
    """Addresses of both kinds, and names as container platforms make them."""
    written = f'server: {{host: "{host}", metrics_host: "{host}", metrics_port: 9464}}\n'

    assert loaded(tmp_path, BASE + written).settings.server.host == host


@pytest.mark.parametrize(
    "host",
    [
        "not a host!",
        "[::1]",
        "a:8080",
        "http://a",
        "127.1",
        "1.2.3.400",
        "-a",
        "a..b",
        "x" * 64,
        " ",
    ],
)
@pytest.mark.parametrize("name", ["host", "metrics_host"])
def test_a_host_that_is_none(tmp_path: Path, name: str, host: str) -> None:
    """Told by `config check`, not first by a start that fails."""
    [fault] = faults(tmp_path, BASE + f'server: {{{name}: "{host}"}}\n')

    assert f"server.{name}: {host!r} is neither an address nor the name of a host" in fault


@pytest.mark.parametrize("name", ["host", "metrics_host"])
def test_an_empty_host(tmp_path: Path, name: str) -> None:
    """Not the same as everywhere, and nobody's guess."""
    [fault] = faults(tmp_path, BASE + f'server: {{{name}: ""}}\n')

    assert f"server.{name}: must not be empty (0.0.0.0 listens everywhere)" in fault


def on_one_port(host: str, metrics_host: str) -> str:
    both = f'host: "{host}", metrics_host: "{metrics_host}"'
    return BASE + f"server: {{{both}, port: 9464, metrics_port: 9464}}\n"


@pytest.mark.parametrize(
    ("host", "metrics_host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("10.1.2.3", "0.0.0.0"),
        ("localhost", "127.0.0.1"),
        ("::1", "localhost"),
        ("0.0.0.0", "localhost"),
        ("::", "::1"),
        ("::1", "0:0:0:0:0:0:0:1"),
        ("Proxy.Internal.", "proxy.internal"),
    ],
)
def test_two_ports_that_are_one(tmp_path: Path, host: str, metrics_host: str) -> None:
    """A fault where they surely meet."""
    [fault] = faults(tmp_path, on_one_port(host, metrics_host))

    assert "server.metrics_port: 9464 is server.port as well, on the same address" in fault


@pytest.mark.parametrize(
    ("host", "metrics_host"),
    [("10.1.2.3", "127.0.0.1"), ("::", "127.0.0.1"), ("0.0.0.0", "::"), ("a.internal", "::1")],
)
def test_one_port_on_addresses_apart(tmp_path: Path, host: str, metrics_host: str) -> None:
    """They do not meet, or only another machine could say so."""
    assert loaded(tmp_path, on_one_port(host, metrics_host)).settings.server.metrics_port == 9464


def test_a_port_of_nothing_meets_nobody(tmp_path: Path) -> None:
    """0 is a free port for the one, and none at all for the other."""
    server = loaded(tmp_path, BASE + "server: {port: 0, metrics_port: 0}\n").settings.server

    assert (server.port, server.metrics_port) == (0, 0)
