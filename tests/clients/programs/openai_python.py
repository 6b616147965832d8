"""The stock OpenAI SDK: every resource that is metered, sync and async, whole and streamed."""

import asyncio
import json
import sys

import openai
from pydantic import BaseModel

URL, KEY = sys.argv[1:]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
ASK = [{"role": "user", "content": "Say hello."}]
PNG = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Point(BaseModel):
    x: int
    y: int


def main() -> dict[str, object]:
    client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
    found: dict[str, object] = {}
    whole = client.chat.completions.create(model="m", messages=ASK)
    found["chat"] = whole.choices[0].message.content
    found["chat_usage"] = whole.usage.total_tokens
    stream = client.chat.completions.create(
        model="m", messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    found["chat_stream"] = "".join(
        chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices
    )
    found["chat_stream_usage"] = chunks[-1].usage.total_tokens
    found["tools"] = with_tools(client)
    parsed = client.chat.completions.parse(model="m", messages=ASK, response_format=Point)
    found["structured"] = parsed.choices[0].message.parsed.model_dump()
    picture = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": PNG}},
    ]
    seen = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": picture}]
    )
    found["vision"] = seen.choices[0].message.content
    found["completions"] = client.completions.create(model="m", prompt="Say hello.").choices[0].text
    vectors = client.embeddings.create(model="m", input=["a", "b"])
    found["embeddings"] = [len(vectors.data), len(vectors.data[0].embedding)]
    found["responses"] = client.responses.create(model="m", input="Say hello.").output_text
    with client.responses.stream(model="m", input="Say hello.") as events:
        found["responses_stream"] = events.get_final_response().output_text
    found["models"] = [model.id for model in client.models.list()]
    found["errors"] = [
        caught(lambda: client.chat.completions.create(model="nope", messages=ASK)),
        caught(lambda: client.chat.completions.create(model="m", messages="hi")),
        caught(lambda: client.chat.completions.create(model="dear", messages=ASK)),
        caught(lambda: client.with_options(api_key="sk-wrong").models.list()),
        caught(lambda: client.responses.create(model="nope", input="hi")),
    ]
    found["async"] = asyncio.run(in_loop())
    return found


def with_tools(client: openai.OpenAI) -> list[object]:
    first = client.chat.completions.create(model="m", messages=ASK, tools=TOOLS)
    call = first.choices[0].message.tool_calls[0]
    streamed: dict[int, str] = {}
    for chunk in client.chat.completions.create(model="m", messages=ASK, tools=TOOLS, stream=True):
        for choice in chunk.choices:
            for part in choice.delta.tool_calls or []:
                streamed[part.index] = streamed.get(part.index, "") + (
                    part.function.arguments or ""
                )
    answer = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    second = client.chat.completions.create(
        model="m", messages=[*ASK, first.choices[0].message, answer], tools=TOOLS
    )
    arguments = json.loads(call.function.arguments)
    return [
        call.function.name,
        arguments,
        json.loads(streamed[0]),
        second.choices[0].message.content,
    ]


def caught(call) -> str:
    try:
        call()
    except openai.APIStatusError as error:
        return f"{type(error).__name__} {error.status_code} {error.code}"
    return "nothing"


async def in_loop() -> list[str]:
    async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0) as client:
        stream = await client.chat.completions.create(model="m", messages=ASK, stream=True)
        text = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        many = await asyncio.gather(
            *[client.chat.completions.create(model="m", messages=ASK) for _ in range(4)]
        )
        return ["".join(text), *{each.choices[0].message.content for each in many}]


print(json.dumps(main()))
