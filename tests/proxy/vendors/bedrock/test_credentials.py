"""AWS keys found by a chain that blocks: once, in a thread, and again before they end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxy.transport import Fault, TransportError
from proxy.vendors.bedrock.credentials import (
    FRESH_S,
    RETRY_S,
    STALE_S,
    BotocoreChain,
    CredentialChain,
    NoKeysError,
)
from proxy.vendors.bedrock.sigv4 import Keys


@dataclass
class ScriptedChain:
    """Gives keys with the number of times it was asked; fails while it `is_broken`."""

    asked: int = 0
    is_broken: bool = False
    threads: set[int] = field(default_factory=set)
    gate: threading.Event = field(default_factory=threading.Event)
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.gate.set()

    def __call__(self) -> Keys:
        assert self.gate.wait(5)
        self.asked += 1
        self.threads.add(threading.get_ident())
        if self.is_broken:
            raise NoKeysError("the metadata server is away")
        return Keys(f"AKID{self.asked}", "secret")

    def clock(self) -> float:
        return self.now


async def settled() -> None:
    """Let what runs beside come to its end."""
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait([task])


async def test_many_callers_ask_once_and_in_a_thread() -> None:
    """The loop goes on while the chain looks, and all who came meanwhile get what it found."""
    scripted = ScriptedChain()
    chain = CredentialChain(scripted, clock=scripted.clock)
    scripted.gate.clear()
    waiting = [asyncio.ensure_future(chain.keys()) for _ in range(20)]
    await asyncio.sleep(0)
    assert not any(each.done() for each in waiting)

    scripted.gate.set()
    found = await asyncio.gather(*waiting)

    assert {each.access_key_id for each in found} == {"AKID1"}
    assert scripted.threads.isdisjoint({threading.get_ident()})
    assert scripted.asked == 1


async def test_keys_are_asked_for_again_beside_the_requests() -> None:
    """After a while the old ones are given out once more, and new ones are there for the next."""
    scripted = ScriptedChain()
    chain = CredentialChain(scripted, clock=scripted.clock)
    assert (await chain.keys()).access_key_id == "AKID1"

    scripted.now += FRESH_S
    assert (await chain.keys()).access_key_id == "AKID1"
    await settled()

    assert (await chain.keys()).access_key_id == "AKID2"


async def test_old_keys_serve_while_the_chain_is_broken_but_not_for_ever() -> None:
    """A metadata server may be away for minutes; keys that may have ended are not used."""
    scripted = ScriptedChain()
    chain = CredentialChain(scripted, clock=scripted.clock)
    await chain.keys()
    scripted.is_broken = True

    scripted.now += STALE_S - 1
    assert (await chain.keys()).access_key_id == "AKID1"
    await settled()
    scripted.now += RETRY_S + 1
    with pytest.raises(TransportError, match="the metadata server is away") as caught:
        await chain.keys()

    assert caught.value.fault is Fault.UNREACHABLE


async def test_a_broken_chain_is_not_asked_by_every_request() -> None:
    """After a failure the next ones fail at once, until it may have mended."""
    scripted = ScriptedChain(is_broken=True)
    chain = CredentialChain(scripted, clock=scripted.clock)
    for _ in range(3):
        with pytest.raises(TransportError):
            await chain.keys()
    assert scripted.asked == 1

    scripted.now += RETRY_S
    scripted.is_broken = False

    assert (await chain.keys()).access_key_id == "AKID2"


async def test_one_caller_that_leaves_takes_nothing_from_the_others() -> None:
    """The question is not the first caller's own."""
    scripted = ScriptedChain()
    chain = CredentialChain(scripted, clock=scripted.clock)
    scripted.gate.clear()
    first, second = (asyncio.ensure_future(chain.keys()) for _ in range(2))
    await asyncio.sleep(0)

    first.cancel()
    scripted.gate.set()

    assert (await second).access_key_id == "AKID1"
    assert first.cancelled() or first.cancelling()


@pytest.fixture
def only_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No profile of whoever runs this, and no metadata server is asked."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return monkeypatch


def test_botocore_finds_keys_where_aws_keeps_them(
    only_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the environment, and in the file of a profile."""
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = AKIDFILE\naws_secret_access_key = from-file\n"
    )
    assert BotocoreChain()() == Keys("AKIDFILE", "from-file", None)

    only_environment.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    only_environment.setenv("AWS_SECRET_ACCESS_KEY", "from-env")
    only_environment.setenv("AWS_SESSION_TOKEN", "lent")

    assert BotocoreChain()() == Keys("AKIDENV", "from-env", "lent")


@pytest.mark.usefixtures("only_environment")
def test_a_machine_without_keys() -> None:
    """The message says where was looked."""
    with pytest.raises(NoKeysError, match="environment, profiles or metadata"):
        BotocoreChain()()


@pytest.mark.usefixtures("only_environment")
def test_a_profile_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """What botocore raises is named, and is no crash."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")

    with pytest.raises(NoKeysError, match="ProfileNotFound"):
        BotocoreChain()()


@pytest.mark.slow(20)
@pytest.mark.timeout(60)
def test_botocore_is_not_imported_before_it_is_needed() -> None:
    """It takes longer than all else that a process imports; and without it one line says what to
    install."""
    program = """
import sys
sys.modules["botocore.session"] = None
import proxy.vendors.bedrock
from proxy.vendors.bedrock.credentials import BotocoreChain, NoKeysError
assert "botocore" not in sys.modules
try:
    BotocoreChain()()
except NoKeysError as error:
    print(error)
"""

    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[4],
    )

    assert "install tokenweir[bedrock]" in done.stdout
