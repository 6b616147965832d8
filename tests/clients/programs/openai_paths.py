"""The OpenAI client for Python on the paths that are relayed as they are; arguments: URL, key."""

from __future__ import annotations

import io
import json
import sys

import openai

url, key = sys.argv[1:3]
client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
found: dict[str, object] = {}

image = client.images.generate(model="art", prompt="a cat", n=2)
found["images"] = [each.url for each in image.data or []]
edited = client.images.edit(model="art", image=("cat.png", b"\x89PNG"), prompt="a dog")
found["edited"] = len(edited.data or [])
found["speech"] = len(client.audio.speech.create(model="tts-1", voice="alloy", input="hi").read())
heard = client.audio.transcriptions.create(
    model="whisper-1", file=("sprüche.mp3", io.BytesIO(b"\x00\xff" * 1000))
)
found["heard"] = heard.text
found["flagged"] = client.moderations.create(input="hello").results[0].flagged

made = client.files.create(file=("rows.jsonl", b'{"a":1}\n'), purpose="batch")
found["file"] = client.files.retrieve(made.id).filename
found["content"] = client.files.content(made.id).read().decode()
found["files"] = [each.id == made.id for each in client.files.list(limit=1)]
batch = client.batches.create(
    input_file_id=made.id, endpoint="/v1/chat/completions", completion_window="24h"
)
found["batch"] = client.batches.retrieve(batch.id).status
found["deleted"] = client.files.delete(made.id).deleted

with client.realtime.connect(model="gpt-realtime") as session:
    session.session.update(session={"type": "realtime", "instructions": "Say hello."})
    session.response.create()
    found["realtime"] = [session.recv().type for _ in range(2)]

errors = []
for ask in (
    lambda: client.files.retrieve(made.id),
    lambda: client.batches.create(
        input_file_id="file-foreign", endpoint="/v1/responses", completion_window="24h"
    ),
    lambda: client.fine_tuning.jobs.create(model="gpt-4.1", training_file="file-x"),
    lambda: client.realtime.client_secrets.create(),
):
    try:
        ask()
    except openai.APIStatusError as error:
        errors.append(f"{type(error).__name__} {error.status_code} {error.code}")
found["errors"] = errors
print(json.dumps(found))
