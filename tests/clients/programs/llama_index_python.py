"""LlamaIndex: a chat and a stream through its OpenAI-compatible model."""

import json
import sys

from llama_index.core.llms import ChatMessage
from llama_index.llms.openai import OpenAI

URL, KEY = sys.argv[1:]


class Ours(OpenAI):
    """It knows OpenAI's own models only, and asks for the window of any other."""

    def _get_model_name(self) -> str:
        return "gpt-4o"


llm = Ours(api_base=f"{URL}/v1", api_key=KEY, model="m", max_retries=0)
ask = [ChatMessage(role="user", content="Say hello.")]
found = {
    "chat": llm.chat(ask).message.content,
    "stream": "".join(part.delta or "" for part in llm.stream_chat(ask)),
}
print(json.dumps(found))
