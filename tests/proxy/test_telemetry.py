"""Logging: one pipeline, two looks, no secrets."""

import io
import json
import logging

import pytest
import structlog

from proxy import telemetry
from proxy.settings import Secret

CANARY = "CANARYcanary0123456789"


@pytest.fixture
def lines(monkeypatch):
    """Logs as a machine reads them, and the root logger given back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    monkeypatch.delenv(telemetry.LEVEL_VARIABLE, raising=False)
    telemetry.configure(stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logging.captureWarnings(False)
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_line_is_one_json_object(lines):
    """Level, time, logger and fields stand beside the message."""
    telemetry.logger("exchange").info("served", status=200)

    [line] = lines()
    assert (line["message"], line["level"], line["logger"]) == ("served", "info", "exchange")
    assert line["status"] == 200
    assert line["timestamp"].endswith("Z")


def test_the_request_id_is_on_every_line(lines):
    """What is bound to the context reaches our lines and those of libraries alike."""
    with structlog.contextvars.bound_contextvars(request_id="req-1"):
        telemetry.logger("exchange").info("ours")
        logging.getLogger("aiohttp.server").warning("theirs %s", "formatted")

    assert [line["request_id"] for line in lines()] == ["req-1", "req-1"]
    assert lines()[1]["message"] == "theirs formatted"


def test_the_level_comes_from_the_environment(lines, monkeypatch):
    """WEIR_LOG decides; the default leaves debug out."""
    telemetry.logger("a").debug("hidden")
    monkeypatch.setenv("WEIR_LOG", "debug")
    stream = io.StringIO()
    telemetry.configure(stream=stream)
    telemetry.logger("a").debug("shown")

    assert lines() == []
    assert "shown" in stream.getvalue()


def test_an_unknown_level_is_named_and_info_is_used(lines):
    """A typo in WEIR_LOG does not silence the log."""
    stream = io.StringIO()
    telemetry.configure(stream=stream, level="verbose")

    assert "unknown log level" in stream.getvalue()


def test_a_terminal_gets_text():
    """On a terminal the line is for people, with colour, and redacted all the same."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = Terminal()
    telemetry.configure(stream=stream)
    telemetry.logger("a").info("hello", authorization=CANARY)
    logging.captureWarnings(False)
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()

    assert "hello" in stream.getvalue()
    assert "\x1b[" in stream.getvalue()
    assert CANARY not in stream.getvalue()


def test_aiohttp_writes_no_access_log(lines):
    """The exchange writes its own line; a second one per request is noise."""
    logging.getLogger("aiohttp.access").info("GET / 200")

    assert lines() == []


CANARIES = {
    "secret object": {"value": Secret(CANARY)},
    "authorization header": {"headers": {"Authorization": CANARY}},
    "cookie header": {"headers": {"set-cookie": CANARY}},
    "provider key field": {"openai_api_key": CANARY},
    "password field": {"password": CANARY},
    "bearer in text": {"text": f"got 'authorization: Bearer {CANARY}' back"},
    "openai key in text": {"text": f"Incorrect API key provided: sk-proj-{CANARY}."},
    "our key in text": {"text": f"key sk-weir-abc-{CANARY}"},
    "stripe key in text": {"text": f"sk_live_{CANARY}"},
    "password in a url": {"url": f"redis://user:{CANARY}@db:6379/0"},
    "deep": {"a": [{"b": ({"c": f"Bearer {CANARY}"},)}]},
    "bytes": {"body": f"Bearer {CANARY}".encode()},
    "an object's text": {"failure": ValueError(f"Bearer {CANARY}")},
}


@pytest.mark.parametrize("fields", CANARIES.values(), ids=CANARIES.keys())
def test_a_credential_never_reaches_the_log(lines, fields):
    """Wherever a credential hides in a record, it is masked."""
    telemetry.logger("a").info("event", **fields)

    text = json.dumps(lines())
    assert CANARY not in text
    assert "***" in text


def test_a_credential_in_a_traceback_is_masked(lines):
    """Exception texts quote what the upstream said, keys included."""
    try:
        raise ValueError(f"refused Bearer {CANARY}")
    except ValueError:
        telemetry.logger("a").exception(f"failed with sk-proj-{CANARY}")
        logging.getLogger("asyncio").exception("task failed: %s", f"Bearer {CANARY}")

    assert CANARY not in json.dumps(lines())
    assert "Traceback" in lines()[0]["exception"]
    assert "Traceback" in lines()[1]["exception"]


def test_what_only_resembles_a_secret_stays(lines):
    """Token counts and key ids are what the log is for."""
    telemetry.logger("a").info("task-force risk-assessment", key_id="k1", output_tokens=7)

    [line] = lines()
    assert (line["key_id"], line["output_tokens"]) == ("k1", 7)
    assert line["message"] == "task-force risk-assessment"
