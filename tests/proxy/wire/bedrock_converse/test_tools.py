"""Tools as Converse has them, and what stands in for none."""

from __future__ import annotations

from proxy.wire.bedrock_converse.tools import STAND_IN, tool_config

TIME = {"type": "function", "function": {"name": "time", "description": " ", "parameters": None}}


def test_no_tools() -> None:
    """Where none was called either, nothing is said of tools."""
    for chat in ({}, {"tools": []}, {"tools": None}, {"tools": [TIME], "tool_choice": "none"}):
        assert tool_config(chat, [], were_called=False) is None


def test_a_stand_in_where_tools_were_called() -> None:
    """Bedrock refuses a conversation with calls that defines no tool; the one defined is no choice
    of the client's, so none is forced."""
    for chat in ({}, {"tools": [TIME], "tool_choice": "none"}, {"tool_choice": "required"}):
        assert tool_config(chat, [], were_called=True) == {"tools": [STAND_IN]}


def test_the_least_that_a_tool_has() -> None:
    """A name; a blank description is left out, parameters are none."""
    lacks: list[str] = []

    found = tool_config({"tools": [TIME, {"type": "web_search"}]}, lacks, were_called=False)

    assert found == {
        "tools": [
            {
                "toolSpec": {
                    "name": "time",
                    "inputSchema": {"json": {"type": "object", "properties": {}}},
                }
            }
        ]
    }
    assert lacks == ["tools[1]"]
