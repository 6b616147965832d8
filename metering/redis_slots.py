"""Where a Redis Cluster keeps a key: slots, the map of their masters, and redirections. Pure."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metering.redis_url import Address

SLOTS = 16_384

_KEY_AT = {"EVAL": 3, "EVALSHA": 3, "XINFO": 2, "XGROUP": 2, "MEMORY": 2, "OBJECT": 2}
"""Where the first key stands; after the command's name unless told otherwise."""
_KEYLESS = frozenset(
    {"CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DBSIZE", "ECHO", "INFO", "PING", "PUBLISH", "ROLE"}
    | {"SCRIPT", "TIME"}
)


@dataclass(frozen=True, slots=True)
class SlotRange:
    """The slots from `first` to `last` and the master that has them."""

    first: int
    last: int
    master: Address
    node_id: str


@dataclass(frozen=True, slots=True)
class SlotMap:
    """Who has which slots, as one node sees it; the highest epoch is the latest agreement."""

    ranges: tuple[SlotRange, ...]
    replicas: frozenset[Address] = frozenset()
    epoch: int = 0
    is_ok: bool = True
    """Whether that node would answer, rather than CLUSTERDOWN."""

    @property
    def is_whole(self) -> bool:
        """Whether every slot has a master."""
        return sum(each.last - each.first + 1 for each in self.ranges) == SLOTS

    @property
    def masters(self) -> frozenset[Address]:
        """The masters that have slots."""
        return frozenset(each.master for each in self.ranges)


def slot_of(key: str | bytes) -> int:
    """The slot of a key: CRC16 of its hash tag, or of all of it."""
    raw = key.encode() if isinstance(key, str) else key
    start = raw.find(b"{")
    if start >= 0:
        end = raw.find(b"}", start + 1)
        if end > start + 1:  # an empty tag counts as none
            raw = raw[start + 1 : end]
    return crc_hqx(raw, 0) % SLOTS


def slot_of_command(args: Sequence[Any]) -> int | None:
    """The slot of a command's first key, or None for one without a key.

    `XINFO GROUPS` may come as two words or as one, as redis-py writes it.
    """
    name, _, second = str(args[0]).upper().partition(" ")
    if name in _KEYLESS:
        return None
    if name in ("XREAD", "XREADGROUP"):
        words = [_text(word).upper() if isinstance(word, str | bytes) else "" for word in args]
        key = args[words.index("STREAMS") + 1]
    else:
        key = args[1 if second else _KEY_AT.get(name, 1)]
    return slot_of(key if isinstance(key, bytes) else str(key))


def read_slots(reply: Sequence[Any], info: bytes | None, *, asked: Address) -> SlotMap:
    """The answers to CLUSTER SLOTS and CLUSTER INFO; a node without a host is on the asked one's.

    Without INFO (an ACL may forbid it) no answer is later than another.
    """
    ranges, replicas = [], set[Address]()
    for first, last, master, *others in reply:
        address = _address(master[0], int(master[1]), asked)
        ranges.append(SlotRange(int(first), int(last), address, _text(master[2])))
        replicas |= {_address(other[0], int(other[1]), asked) for other in others}
    facts = dict(line.split(":", 1) for line in (info or b"").decode().split() if ":" in line)
    return SlotMap(
        tuple(ranges),
        frozenset(replicas),
        epoch=int(facts.get("cluster_current_epoch", "0")),
        is_ok=facts.get("cluster_state", "ok") == "ok",
    )


def read_redirect(message: str, *, asked: Address) -> tuple[int, Address]:
    """Slot and node of `MOVED <slot> <host>:<port>` or `ASK ...`."""
    _, slot, place = message.split(" ", 2)
    host, _, port = place.rpartition(":")
    return int(slot), _address(host, int(port), asked)


def _address(host: Any, port: int, asked: Address) -> Address:
    # Servers that do not know their own name say nothing, or "?" in place of it.
    name = "" if host is None else _text(host).strip("[]")
    return (asked[0] if name in ("", "?") else name, port)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
