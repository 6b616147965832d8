"""What is written, in the eyes of OpenAI's own library, over a real socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import openai
import orjson
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from metering.meter import Meter
from metering.tokenizer import tokenizer_for
from proxy.error_words import ErrorWords
from proxy.stream_reader import StreamReader
from proxy.wire import upstream_format
from proxy.wire.openai_responses.client import (
    error_body,
    error_event,
    parse_request,
    write_whole,
    writer,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "openai_responses"
FINISHED = ["plain", "reasoning", "tools", "custom_tool", "refusal", "schema", "logprobs", "empty"]
CUT_SHORT = ["length", "content_filter"]
WORDS = ErrorWords(429, "No money.", "insufficient_quota", "insufficient_quota")


class Answer(BaseModel):
    n: int


@contextmanager
def served(body: bytes, *, status: int = 200, is_stream: bool = True) -> Iterator[str]:
    """A server that gives this answer to everybody."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            kind = "text/event-stream" if is_stream else "application/json"
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.send_header("x-should-retry", "false")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name there
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def client(body: bytes, **fields: Any) -> Iterator[OpenAI]:
    with served(body, **fields) as url, OpenAI(base_url=url, api_key="k") as found:
        yield found


def stream(name: str) -> bytes:
    return (GOLDEN / f"write_{name}.sse").read_bytes()


def last(sent: bytes) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(sent.rstrip().rsplit(b"data: ", 1)[1])["response"]
    return found


def bare(value: Any) -> Any:
    """Without what the library adds."""
    if isinstance(value, list):
        return [bare(each) for each in value]
    if isinstance(value, dict):
        kept = {name: each for name, each in value.items() if not name.startswith("parsed")}
        return {name: bare(each) for name, each in kept.items()}
    return value


@pytest.mark.parametrize("name", FINISHED)
def test_the_library_puts_a_stream_together(name: str) -> None:
    """`responses.stream` ends with the response that we wrote."""
    with client(stream(name)) as found, found.responses.stream(model="m", input="hi") as events:
        kinds = [event.type for event in events]
        final = events.get_final_response()

    assert kinds[-1] == "response.completed"
    assert bare(final.to_dict()["output"]) == last(stream(name))["output"]
    assert final.usage is not None
    assert final.usage.to_dict() == last(stream(name))["usage"]


@pytest.mark.parametrize("name", CUT_SHORT)
def test_the_library_sees_that_an_answer_is_cut_short(name: str) -> None:
    """An incomplete response is told by its event and says why."""
    with client(stream(name)) as found, found.responses.stream(model="m", input="hi") as events:
        final = list(events)[-1]

    assert final.type == "response.incomplete"
    details = final.response.incomplete_details
    assert details is not None
    assert details.reason == ("content_filter" if name == "content_filter" else "max_output_tokens")


async def test_the_asynchronous_library_reads_the_same() -> None:
    """`create(stream=True)` gives the text in its deltas."""
    with served(stream("plain")) as url:
        async with AsyncOpenAI(base_url=url, api_key="k") as found:
            events = await found.responses.create(model="m", input="hi", stream=True)
            texts = [
                each.delta async for each in events if each.type == "response.output_text.delta"
            ]

    assert "".join(texts) == "Hello 🙂"


def test_structured_output_is_parsed() -> None:
    """A schema given as a class comes back as one, streamed or whole."""
    with (
        client(stream("schema")) as found,
        found.responses.stream(model="m", input="2+2", text_format=Answer) as events,
    ):
        streamed = events.get_final_response().output_parsed
    whole = orjson.dumps(last(stream("schema")))
    with client(whole, is_stream=False) as found:
        parsed = found.responses.parse(model="m", input="2+2", text_format=Answer).output_parsed

    assert streamed == parsed == Answer(n=4)


def test_arguments_of_parallel_calls_are_parsed() -> None:
    """Each call has its own arguments, though their deltas came mixed."""
    tools = orjson.loads((GOLDEN / "write_tools.json").read_bytes())["request"]["tools"]
    with (
        client(stream("tools")) as found,
        found.responses.stream(model="m", input="hi", tools=tools) as events,
    ):
        output = events.get_final_response().output

    calls = [item for item in output if item.type == "function_call"]
    assert [call.parsed_arguments for call in calls] == [{"city": "Paris"}, {"city": "Oslo"}]


def test_a_whole_answer_is_read() -> None:
    """`output_text` and the usage are where the library looks for them."""
    request = parse_request(b'{"model": "m", "input": "hi"}')
    message = {"role": "assistant", "content": "Hello"}
    completion = {"id": "chatcmpl-1", "model": "x", "created": 5, "choices": [{"message": message}]}
    body = write_whole(completion, {"input_uncached": 3, "output_text": 1}, request)

    with client(orjson.dumps(body), is_stream=False) as found:
        response = found.responses.create(model="m", input="hi")

    assert (response.output_text, response.status, response.model) == ("Hello", "completed", "x")
    assert response.usage is not None
    assert response.usage.total_tokens == 4


def test_a_refusal_is_raised_as_its_class() -> None:
    """An error body becomes the exception of its status."""
    body = error_body(WORDS, "req_1")
    with (
        client(body, status=429, is_stream=False) as found,
        pytest.raises(openai.RateLimitError) as caught,
    ):
        found.responses.create(model="m", input="hi")

    assert caught.value.code == "insufficient_quota"


def plainly(found: OpenAI) -> None:
    """Read the events themselves."""
    list(found.responses.create(model="m", input="hi", stream=True))


def with_the_helper(found: OpenAI) -> None:
    """Have them put together."""
    with found.responses.stream(model="m", input="hi") as events:
        events.until_done()


@pytest.mark.parametrize("read", [plainly, with_the_helper])
def test_a_failure_in_a_stream_is_raised(read: Callable[[OpenAI], None]) -> None:
    """An error event ends a stream with an exception, not with an answer that looks whole."""
    write = writer(parse_request(b'{"model": "m", "input": "hi", "stream": true}'))
    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": "Half"}}]}
    sent = write.write(chunk) + error_event(WORDS, "req_1")

    with client(sent) as found, pytest.raises(openai.APIError) as caught:
        read(found)

    assert caught.value.code == "insufficient_quota"
    assert caught.value.message == "No money."


def test_a_relayed_stream_that_we_end_is_read() -> None:
    """A stream of the upstream's, ended softly in the midst of a text, is whole to the library."""
    sent = (GOLDEN / "plain.sse").read_bytes()
    cut = sent[: sent.index(b"event: response.output_text.done")]
    request = parse_request(b'{"model": "m", "input": "hi", "stream": true}')
    spoken = upstream_format("openai_responses")
    reader = StreamReader(
        spoken.source(request, created_s=1), spoken.decoder(), Meter(tokenizer_for("gpt-4o"), 7)
    )
    body = reader.feed(cut) + reader.end_softly()

    with client(body) as found, found.responses.stream(model="m", input="hi") as events:
        final = list(events)[-1]

    assert final.type == "response.incomplete"
    assert final.response.output_text == "Hello there, “world” 🙂."
    assert final.response.usage is not None
    assert final.response.usage.input_tokens == 7
