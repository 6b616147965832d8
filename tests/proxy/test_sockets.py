"""Listening sockets: addresses, sharing, and what cannot be had."""

import socket

import pytest

from proxy import sockets


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
    ],
)
def test_what_only_this_machine_can_reach(host, expected):
    """Loopback in either family, and names for it."""
    assert sockets.is_loopback(host) is expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("weir.example", "http://weir.example:80"),
    ],
)
def test_the_url_can_be_called(host, expected):
    """A wildcard is no address that a client could use."""
    assert sockets.url(host, 80) == expected


@pytest.mark.parametrize("processes", [1, 3])
def test_the_processes_share_one_port(processes):
    """Port 0 is chosen once; every process has its own socket on it."""
    opened = sockets.listen("127.0.0.1", 0, processes=processes)

    ports = {bound.getsockname()[1] for each in opened for bound in each}
    assert len(opened) == processes
    assert len(ports) == 1
    sockets.close_all(opened)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_port_of_ours_is_not_shared_with_strangers(processes):
    """Even one who offers to share gets an error, and so do we: nobody takes half our clients."""
    opened = sockets.listen("127.0.0.1", 0, processes=processes)
    port = opened[0][0].getsockname()[1]

    with pytest.raises(sockets.ListenError, match="Address already in use"):
        sockets.listen("127.0.0.1", port, processes=2)
    sockets.close_all(opened)


def test_the_remedy_is_the_one_for_this_port():
    """Whoever set a key of the file is not told of an option that changes another port."""
    opened = sockets.listen("127.0.0.1", 0)
    port = opened[0][0].getsockname()[1]

    with pytest.raises(sockets.ListenError, match=r"in use\. Another port: server\.metrics_port$"):
        sockets.listen("127.0.0.1", port, remedy="Another port: server.metrics_port")
    sockets.close_all(opened)


def test_all_sockets_listen():
    """A connection is accepted by the kernel before any process runs."""
    opened = sockets.listen("localhost", 0, processes=2)
    host, port = opened[0][0].getsockname()[:2]

    socket.create_connection((host, port), timeout=5).close()
    sockets.close_all(opened)


def test_a_name_that_is_none():
    """The line names the host."""
    with pytest.raises(sockets.ListenError, match=r"nowhere\.invalid"):
        sockets.listen("nowhere.invalid", 0)


@pytest.mark.parametrize("host", ["x" * 300, "a..b\u00e9", "no such host"])
def test_what_is_no_host(host):
    """A name that no resolver takes is a refusal of ours, not the codec's."""
    with pytest.raises(sockets.ListenError, match="cannot listen on"):
        sockets.listen(host, 0)
