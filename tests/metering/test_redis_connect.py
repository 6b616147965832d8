"""What a URL opens."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from fixtures_cluster import HOST, free_port, nodes, until
from fixtures_needs import need

from metering.caps import CapsUnavailableError
from metering.redis_cluster import ClusterLink
from metering.redis_connect import open_runner
from metering.redis_link import RedisLink
from metering.redis_sentinel import SentinelLink
from metering.redis_slots import SLOTS
from metering.settlement.redis_client import connect


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://h", RedisLink),
        ("rediss://h", RedisLink),
        ("unix:///s", RedisLink),
        ("redis+cluster://h,i", ClusterLink),
        ("rediss+cluster://h", ClusterLink),
        ("redis+sentinel://h,i/m", SentinelLink),
        ("rediss+sentinel://h/m", SentinelLink),
    ],
)
async def test_a_url_opens_what_it_names(url: str, kind: type) -> None:
    runner = open_runner(url)

    assert isinstance(runner, kind)
    assert not runner.is_up
    assert runner.generation == 0


async def test_tls_is_spoken_to_a_server_and_to_a_cluster(tmp_path: Path) -> None:
    """By proxies and by workers alike; a server that nobody vouches for is not spoken to."""
    need("redis-tls")
    authority, certificate = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(certificate))
    issued = authority.issue_cert(HOST)
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    port = free_port()
    tls = ["--tls-port", str(port), "--tls-auth-clients", "no", "--tls-ca-cert-file"]
    tls += [str(certificate), "--tls-cert-file", str(tmp_path / "cert.pem")]
    tls += ["--tls-key-file", str(tmp_path / "key.pem"), "--tls-cluster", "yes"]
    with nodes() as start:
        node = start(*tls, "--cluster-enabled", "yes")
        until(lambda: node.ask("PING"))
        node.ask("CLUSTER", "ADDSLOTS", *range(SLOTS))
        until(lambda: "cluster_state:ok" in node.ask("CLUSTER", "INFO"))
        for scheme in ("rediss", "rediss+cluster"):
            url = f"{scheme}://{HOST}:{port}"
            async with open_runner(f"{url}?ca_file={certificate}", timeout_ms=2_000) as runner:
                await runner.wait_up(5)
                assert await runner.call("SET", "{s1}:key", scheme) == b"OK"
            async with connect(f"{url}?ca_file={certificate}") as client:
                assert await client.get("{s1}:key") == scheme.encode()
            async with open_runner(url) as runner:
                with pytest.raises(CapsUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
                    await runner.wait_up(0.5)


def test_a_url_that_names_nothing_opens_nothing() -> None:
    with pytest.raises(ValueError, match="scheme 'http'"):
        open_runner("http://h")
