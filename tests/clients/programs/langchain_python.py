"""LangChain over both of its chat models: whole, streamed, tools, structured output."""

import asyncio
import json
import sys

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

URL, KEY = sys.argv[1:]


class Point(BaseModel):
    """A place on a plane."""

    x: int
    y: int


@tool
def weather(city: str) -> str:
    """The weather somewhere."""
    return "sunny"


def look(model) -> dict[str, object]:
    ask = [HumanMessage("Say hello.")]
    found: dict[str, object] = {"text": model.invoke(ask).text}
    chunks = list(model.stream(ask))
    found["stream"] = "".join(chunk.text for chunk in chunks)
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    found["usage"] = total.usage_metadata["output_tokens"]
    [call] = model.bind_tools([weather]).invoke(ask).tool_calls
    found["tools"] = [call["name"], call["args"]]
    return found


def main() -> dict[str, object]:
    chat = ChatOpenAI(
        base_url=f"{URL}/v1", api_key=KEY, model="m", max_retries=0, stream_usage=True
    )
    claude = ChatAnthropic(base_url=URL, api_key=KEY, model="m", max_retries=0, max_tokens=64)
    found: dict[str, object] = {"openai": look(chat), "anthropic": look(claude)}
    found["structured"] = chat.with_structured_output(Point).invoke("Where?").model_dump()
    found["async"] = asyncio.run(chat.ainvoke("Say hello.")).text
    vectors = OpenAIEmbeddings(
        base_url=f"{URL}/v1", api_key=KEY, model="m", check_embedding_ctx_length=False
    )
    found["embeddings"] = len(vectors.embed_query("a"))
    return found


print(json.dumps(main()))
