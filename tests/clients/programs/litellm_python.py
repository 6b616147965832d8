"""litellm as a client of a proxy: chat, stream, tools, embeddings, and Anthropic's format."""

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
found = {
    "chat": whole.choices[0].message.content,
    "stream": "".join(chunk.choices[0].delta.content or "" for chunk in stream),
    "embeddings": len(vectors.data),
    "anthropic": claude.choices[0].message.content,
}
try:
    litellm.completion(model="openai/nope", messages=ASK, **WHERE)
except litellm.NotFoundError as error:
    found["error"] = error.status_code
print(json.dumps(found))
