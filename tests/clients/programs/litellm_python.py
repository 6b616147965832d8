"""litellm as a client of a proxy: chat, embeddings and Anthropic's format; its streams, with
tools in them."""

import json
import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it fetches one at import

import litellm

URL, KEY = sys.argv[1:]
ASK = [{"role": "user", "content": "Say hello."}]
WHERE = {"api_base": f"{URL}/v1", "api_key": KEY, "num_retries": 0}

whole = litellm.completion(model="openai/m", messages=ASK, **WHERE)
stream = litellm.completion(model="openai/m", messages=ASK, stream=True, **WHERE)
vectors = litellm.embedding(model="openai/m", input=["a"], **WHERE)
claude = litellm.completion(
    model="anthropic/m", messages=ASK, api_base=URL, api_key=KEY, num_retries=0
)
# else any tool goes through a handler that wants the package `mcp`, as its `responses` always do
PLAIN = {"num_retries": 0, "_skip_mcp_handler": True}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def called(model, **where):
    """The tool that is called in a stream, and its arguments, put together as litellm does."""
    asked = {"messages": ASK, "tools": [TOOL], "stream": True}
    pieces = list(litellm.completion(model=model, **asked, **where, **PLAIN))
    function = litellm.stream_chunk_builder(pieces).choices[0].message.tool_calls[0].function
    return [function.name, json.loads(function.arguments)]


found = {
    "chat": whole.choices[0].message.content,
    "stream": "".join(chunk.choices[0].delta.content or "" for chunk in stream),
    "embeddings": len(vectors.data),
    "anthropic": claude.choices[0].message.content,
    "tools": called("openai/m", api_base=f"{URL}/v1", api_key=KEY),
    "anthropic_tools": called("anthropic/m", api_base=URL, api_key=KEY),
}
try:
    litellm.completion(model="openai/nope", messages=ASK, **WHERE)
except litellm.NotFoundError as error:
    found["error"] = error.status_code
print(json.dumps(found))
