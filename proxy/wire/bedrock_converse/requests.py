"""A chat request as the body of Converse: what it carries, and what it cannot.

What is common to all models has fields of its own; the rest goes under
`additionalModelRequestFields`, in words that each maker chose for itself. Which maker it is stands
in the model's id; where it does not (an ARN of a profile), Converse's own words are used.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from proxy.changes import instructed
from proxy.chat import UNSUPPORTED, ChatRequest
from proxy.errors import InvalidRequest
from proxy.thinking import effort_of
from proxy.wire import Sending
from proxy.wire.bedrock_converse.messages import conversation, has_tools, without_status
from proxy.wire.bedrock_converse.tools import tool_config

_WRITTEN = frozenset(
    {
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "reasoning_effort",
        "response_format",
        "service_tier",
        "stop",
        "stream",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    }
)
_HINTS = frozenset(
    {
        "cache_control",
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "store",
        "stream_options",
        "user",
        UNSUPPORTED,
    }
)
"""What means nothing for the answer, or nothing at AWS; the last is named by the passage."""

_AS_IS: Mapping[str, Sequence[object]] = {
    "best_of": (1,),
    "frequency_penalty": (0,),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "parallel_tool_calls": (True,),
    "presence_penalty": (0,),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
}
"""Values that ask for what happens anyway."""

_TIERS = frozenset({"default", "flex", "priority", "reserved"})
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def cannot_carry(chat: Mapping[str, Any]) -> Sequence[str]:
    """The fields of a chat request that Converse has no place for."""
    lacks: list[str] = []
    with contextlib.suppress(InvalidRequest):  # what is malformed is said when it is written
        _body(chat, lacks)
    return tuple(dict.fromkeys(lacks))


def from_chat(request: ChatRequest, sending: Sending) -> dict[str, Any]:
    """The body; the model stands in the URL, and so does whether it streams."""
    chat = request.chat
    if sending.instruct is not None:
        chat = instructed(chat, sending.instruct)
    lacks: list[str] = []
    body = _body(chat, lacks)
    if lacks and not sending.drop_unsupported:
        raise InvalidRequest(f"`{lacks[0]}` cannot be sent to Bedrock.", param=lacks[0])
    limits = [each for each in (request.output_limit, sending.output_max) if each is not None]
    if limits:
        body["inferenceConfig"] = {"maxTokens": min(limits), **body.get("inferenceConfig", {})}
    _add_model_fields(body, chat, sending.model)
    if not _knows_status(sending.model):
        without_status(body["messages"])
    return body


def _body(chat: Mapping[str, Any], lacks: list[str]) -> dict[str, Any]:
    """All that is the same for every model, but for the output limit."""
    lacks += [
        name
        for name, value in chat.items()
        if name not in _WRITTEN
        and name not in _HINTS
        and value is not None
        and not _is_as_is(name, value, chat)
    ]
    system, turns = conversation(chat.get("messages"), lacks)
    body: dict[str, Any] = {"messages": turns}
    if system:
        body["system"] = system
    if inference := _inference(chat, lacks):
        body["inferenceConfig"] = inference
    if (tools := tool_config(chat, lacks, were_called=has_tools(turns))) is not None:
        body["toolConfig"] = tools
    if (wanted := _text_format(chat.get("response_format"), lacks)) is not None:
        body["outputConfig"] = {"textFormat": wanted}
    if isinstance(tier := chat.get("service_tier"), str) and tier in _TIERS:
        body["serviceTier"] = {"type": tier}
    return body


def _is_as_is(name: str, value: object, chat: Mapping[str, Any]) -> bool:
    if name == "parallel_tool_calls" and not chat.get("tools"):
        return True
    return value in _AS_IS.get(name, ())


def _inference(chat: Mapping[str, Any], lacks: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, own in (("temperature", "temperature"), ("top_p", "topP")):
        value = chat.get(name)
        if value is None:
            continue
        if type(value) not in {int, float} or not value >= 0:
            raise InvalidRequest(f"`{name}` must be a number from 0 on.", param=name)
        if value > 1:
            lacks.append(name)
        else:
            found[own] = value
    stop = chat.get("stop")
    stops = [stop] if isinstance(stop, str) else stop
    if stops is not None:
        if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops):
            raise InvalidRequest("`stop` must be a string or a list of strings.", param="stop")
        if said := [each for each in stops if each]:
            found["stopSequences"] = said
    return found


def _text_format(wanted: Any, lacks: list[str]) -> dict[str, Any] | None:
    if wanted is None:
        return None
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if not isinstance(kind, str):
        raise InvalidRequest("`response_format` must have a type.", param="response_format")
    if kind == "text":
        return None
    if kind != "json_schema":
        lacks.append("response_format")  # there is no JSON without a schema here
        return None
    asked = wanted.get("json_schema")
    schema = asked.get("schema") if isinstance(asked, dict) else None
    if not isinstance(schema, dict):
        param = "response_format.json_schema.schema"
        raise InvalidRequest(f"`{param}` must be an object.", param=param)
    written = {"schema": orjson.dumps(schema).decode()}  # a string: that is how Converse wants it
    for name in ("name", "description"):
        if isinstance(said := asked.get(name), str) and said:
            written[name] = said
    return {"type": "json_schema", "structure": {"jsonSchema": written}}


def _add_model_fields(body: dict[str, Any], chat: Mapping[str, Any], model: str) -> None:
    """What each maker calls differently."""
    fields: dict[str, Any] = {}
    if (top_k := chat.get("top_k")) is not None:
        if type(top_k) is not int or top_k < 0:
            raise InvalidRequest("`top_k` must be a whole number.", param="top_k")
        fields |= {"inferenceConfig": {"topK": top_k}} if _is_nova(model) else {"top_k": top_k}
    thinking, effort = chat.get("thinking"), chat.get("reasoning_effort")
    if thinking is not None and not isinstance(thinking, dict):
        raise InvalidRequest("`thinking` must be an object.", param="thinking")
    # the field is Claude's own; what an ARN stands for is not known
    if thinking is not None and ("anthropic." in model or model[:4] == "arn:"):
        fields["thinking"] = thinking
    else:
        effort = effort_of(chat)
    if effort is not None:
        if effort not in _EFFORTS:
            raise InvalidRequest(
                f"`reasoning_effort` must be one of {', '.join(_EFFORTS)}.",
                param="reasoning_effort",
            )
        _add_effort(body, fields, effort, model)
    if fields:
        body["additionalModelRequestFields"] = fields
    if body.get("inferenceConfig", {}).get("stopSequences") and "anthropic." in model:
        # Claude says which stop was met; a field that an answer lacks is passed over by Converse
        body["additionalModelResponseFieldPaths"] = ["/stop_sequence"]


def _add_effort(body: dict[str, Any], fields: dict[str, Any], effort: str, model: str) -> None:
    if "openai." in model and "gpt-oss" not in model:
        fields["reasoning"] = {"effort": "low" if effort == "minimal" else effort}
        return
    if effort == "none":
        return  # the others do not reason unless they are asked to, or cannot do without
    level = "low" if effort == "minimal" else effort
    if "gpt-oss" in model or "moonshot" in model:
        fields["reasoning_effort"] = level
    elif _is_nova(model):
        fields["reasoningConfig"] = {"type": "enabled", "maxReasoningEffort": level}
    else:
        body["outputConfig"] = {**body.get("outputConfig", {}), "effort": level}


def _knows_status(model: str) -> bool:
    """Whether a result may say that its tool failed: AWS documents it for these two only
    (`ToolResultBlock.status`)."""
    return "anthropic." in model or _is_nova(model)


def _is_nova(model: str) -> bool:
    return "amazon.nova" in model
