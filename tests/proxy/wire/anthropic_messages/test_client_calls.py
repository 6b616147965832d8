"""Pieces of parallel tool calls, put into order."""

from __future__ import annotations

from typing import Any

from proxy.wire.anthropic_messages.client_calls import Calls


def piece(arguments: str = "", **fields: Any) -> dict[str, Any]:
    name = fields.pop("name", None)
    return {"function": {"name": name, "arguments": arguments}, **fields}


def begun(calls: Calls, **fields: Any) -> list[str]:
    found = []
    for call in calls.ready(**fields):
        call.block = len(found)
        found.append(call.id)
    return found


def test_a_call_begins_with_its_name() -> None:
    """Without a name it waits; what came of its arguments meanwhile is kept."""
    calls = Calls()

    call, told = calls.take(0, piece('{"a"', id="x"))
    assert (begun(calls), told) == ([], "")
    calls.take(0, piece(":1}", name="f"))

    assert begun(calls) == ["x"]
    assert "".join(call.pieces) == '{"a":1}'


def test_the_next_begins_when_the_first_is_whole() -> None:
    """Servers that send one call after the other lose no time."""
    calls = Calls()
    calls.take(0, piece("{}", id="x", name="f"))
    assert begun(calls) == ["x"]

    calls.take(1, piece(id="y", name="f"))

    assert begun(calls) == ["y"]


def test_the_next_waits_for_one_that_is_not_whole() -> None:
    """Pieces that come in turns are told one call after the other."""
    calls = Calls()
    calls.take(0, piece("{", id="x", name="f"))
    assert begun(calls) == ["x"]
    calls.take(1, piece("{}", id="y", name="f"))
    calls.take(2, piece("{}", id="z", name="f"))

    assert begun(calls) == []
    assert calls.take(0, piece("}"))[1] == "}"
    assert begun(calls, is_end=True) == ["y", "z"]
    assert calls.count == 3


def test_a_call_of_another_id_is_another_call() -> None:
    """Some servers send every call under the index 0."""
    calls = Calls()
    calls.take(0, piece("{}", id="x", name="f"))
    calls.take(0, piece("{}", id="y", name="f"))

    assert begun(calls) == ["x", "y"]


def test_nonsense_is_an_empty_call() -> None:
    """Values of wrong types are as good as none; at the end such a call is told all the same."""
    calls = Calls()
    for odd in ({}, {"function": []}, {"id": 5, "function": {"name": 5, "arguments": {}}}):
        calls.take(0, odd)

    assert begun(calls) == []
    assert begun(calls, is_end=True) == [""]
