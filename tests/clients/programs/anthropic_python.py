"""The stock Anthropic SDK: messages, streams, tools, pictures, tokens counted, errors."""

import asyncio
import json
import sys

import anthropic

URL, KEY = sys.argv[1:]
ASK = [{"role": "user", "content": "Say hello."}]
TOOLS = [
    {
        "name": "weather",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
]
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def main() -> dict[str, object]:
    client = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0)
    found: dict[str, object] = {}
    for model in ("m", "claude"):
        found[model] = both_ways(client, model)
    found["errors"] = [
        caught(lambda: client.messages.create(model="nope", max_tokens=9, messages=ASK)),
        caught(lambda: client.messages.create(model="m", max_tokens=0, messages=ASK)),
        caught(lambda: client.messages.create(model="dear", max_tokens=9, messages=ASK)),
        caught(
            lambda: client.with_options(api_key="sk-wrong").messages.create(
                model="m", max_tokens=9, messages=ASK
            )
        ),
    ]
    found["async"] = asyncio.run(in_loop())
    return found


def both_ways(client: anthropic.Anthropic, model: str) -> dict[str, object]:
    found: dict[str, object] = {}
    whole = client.messages.create(model=model, max_tokens=64, system="Be kind.", messages=ASK)
    found["text"] = whole.content[0].text
    found["stop"] = whole.stop_reason
    found["usage"] = [whole.usage.input_tokens > 0, whole.usage.output_tokens]
    with client.messages.stream(model=model, max_tokens=64, messages=ASK) as stream:
        found["stream"] = "".join(stream.text_stream)
        final = stream.get_final_message()
    found["stream_usage"] = [final.usage.input_tokens > 0, final.usage.output_tokens]
    asked = client.messages.create(model=model, max_tokens=64, messages=ASK, tools=TOOLS)
    call = next(block for block in asked.content if block.type == "tool_use")
    with client.messages.stream(model=model, max_tokens=64, messages=ASK, tools=TOOLS) as stream:
        streamed = stream.get_final_message()
    [again] = [block.input for block in streamed.content if block.type == "tool_use"]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    said = client.messages.create(
        model=model,
        max_tokens=64,
        tools=TOOLS,
        messages=[
            *ASK,
            {"role": "assistant", "content": asked.content},
            {"role": "user", "content": [result]},
        ],
    )
    found["tools"] = [call.name, call.input, again, asked.stop_reason, said.content[0].text]
    picture = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": PNG},
    }
    seen = client.messages.create(
        model=model, max_tokens=64, messages=[{"role": "user", "content": [picture]}]
    )
    found["vision"] = seen.content[0].text
    found["counted"] = client.messages.count_tokens(model=model, messages=ASK).input_tokens > 0
    return found


def caught(call) -> str:
    try:
        call()
    except anthropic.APIStatusError as error:
        return f"{type(error).__name__} {error.status_code} {error.body['error']['type']}"
    return "nothing"


async def in_loop() -> str:
    async with anthropic.AsyncAnthropic(base_url=URL, api_key=KEY, max_retries=0) as client:
        async with client.messages.stream(model="m", max_tokens=9, messages=ASK) as stream:
            return "".join([text async for text in stream.text_stream])


print(json.dumps(main()))
