"""T-13, T-46: what a body costs us, as a multiple of what it costs its sender to send it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from fixtures_weir import Weir
from raw_http import CHAT, one

from proxy.json_bounds import DEPTH_MAX, VALUES_MAX

MIB = 1024 * 1024
SIZE = MIB
TIMES_MAX = 100
"""docs/threat-model.md promises it: bytes of memory per byte of a body."""

CPU_S_PER_MIB_MAX = 3.0
"""Counting is the costliest thing; odd text takes ten times as long as prose."""


def chat(content: str, more: str = "") -> bytes:
    message = f'{{"role":"user","content":"{content}"}}'
    return f'{{"model":"demo","messages":[{message}]{more}}}'.encode()


def filled(piece: str) -> str:
    return piece * (SIZE // len(piece.encode()))


BODIES: dict[str, Callable[[], bytes]] = {
    "empty_objects": lambda: chat("", f',"x":[{filled("{},")}0]'),
    "as_many_values_as_may_be": lambda: chat("", ',"x":[' + "{}," * (VALUES_MAX // 2 - 10) + "0]"),
    "lists_in_lists": lambda: chat("", f',"x":[{"[[[]]]," * (VALUES_MAX // 4 - 10)}0]'),
    "many_messages": lambda: (
        b'{"model":"demo","messages":[' + b'{"content":"a"},' * (VALUES_MAX // 3) + b"{}]}"
    ),
    "never_closed": lambda: chat("", f',"x":{filled("[")}'),
    "as_deep_as_may_be": lambda: chat("", ',"x":' + "[" * (DEPTH_MAX - 5) + "]" * (DEPTH_MAX - 5)),
    "one_wide_letter": lambda: chat(filled("a") + "\U0001f600"),
    "prose": lambda: chat(filled("The quick brown fox jumps over the lazy dog. ")),
    "one_letter": lambda: chat(filled("a")),
    "han": lambda: chat(filled("\u4e2d\u6587\u5b57")),
    "digits": lambda: chat("", f',"x":{filled("9")}'),
}


@pytest.mark.slow(30)
@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", BODIES)
async def test_t46_a_body_costs_a_bounded_multiple_of_its_size(weir: Weir, name: str) -> None:
    """T-46: memory grows by less than a hundred times the body, CPU by a few seconds per MiB."""
    port = int(weir.url.rpartition(":")[2])
    [proxy] = [each for each in psutil.Process(weir.process.pid).children() if listens(each, port)]
    raw = BODIES[name]()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {weir.key}\r\n"
        f"Content-Length: {len(raw)}\r\n\r\n"
    )
    Path(f"/proc/{proxy.pid}/clear_refs").write_text("5")  # the peak is measured from here on
    before, cpu = proxy.memory_info().rss, sum(proxy.cpu_times()[:2])

    said = await one(weir.url, head.encode() + raw)

    grown = peak(proxy.pid) - before
    cpu_s = sum(proxy.cpu_times()[:2]) - cpu
    times = grown / len(raw)
    print(
        f"{name}: {len(raw) / MIB:.2f} MiB, {said.status}, {times:.1f} times in memory, "
        f"{cpu_s:.2f} s of CPU, {cpu_s / (len(raw) / MIB):.2f} s per MiB"
    )
    assert said.status in {200, 400}
    assert grown < max(TIMES_MAX * len(raw), 4 * MIB)
    assert cpu_s < max(CPU_S_PER_MIB_MAX * len(raw) / MIB, 0.5)


def listens(process: psutil.Process, port: int) -> bool:
    return any(
        each.status == psutil.CONN_LISTEN and each.laddr.port == port
        for each in process.net_connections("tcp")
    )


def peak(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel tells no peak")
