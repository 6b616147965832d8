"""The stock OpenAI SDK over answers that were kept: a stream twice, and a request sent again."""

import json
import sys
from typing import Any

import openai

URL, KEY = sys.argv[1:]


def main() -> dict[str, object]:
    client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)

    def streamed(**more: Any) -> list[str]:
        """How it was given, and what it said."""
        answer = client.chat.completions.with_raw_response.create(
            model="m",
            messages=[{"role": "user", "content": "Say hello."}],
            stream=True,
            stream_options={"include_usage": True},
            **more,
        )
        chunks = list(answer.parse())
        text = "".join(each.choices[0].delta.content or "" for each in chunks if each.choices)
        usage = chunks[-1].usage
        how = answer.headers.get("x-weir-idempotent-replay") or answer.headers.get("x-weir-cache")
        return [str(how), text, str(usage.total_tokens if usage else None)]

    keyed = {"extra_headers": {"Idempotency-Key": "1", "Cache-Control": "no-store"}}
    return {
        "first": streamed(),
        "second": streamed(),
        "keyed": [streamed(**keyed), streamed(**keyed)],
        "refused": _refused(client),
    }


def _refused(client: openai.OpenAI) -> str:
    try:
        client.embeddings.create(
            model="m", input="other", extra_headers={"Cache-Control": "only-if-cached"}
        )
    except openai.APIStatusError as error:
        return f"{error.status_code} {error.code}"
    return "served"


print(json.dumps(main()))
