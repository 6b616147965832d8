"""Runs seeds one after the other in this process, each in a ledger that was empty a moment ago."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metering.settlement.ledger.store import Ledger, open_ledger
from metering.settlement.ledger.verify import verify
from simulation.checks import examine, papers
from simulation.delivery import Course
from simulation.fate import Fate, hooked
from simulation.world import World, make_world


@dataclass
class Outcome:
    """What became of a seed. `findings` is empty when everything held."""

    seed: int
    findings: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    events: int = 0
    entries: int = 0
    lives: int = 0
    met: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)


class InlineLoop(asyncio.SelectorEventLoop):
    """Work for threads is done at once: the same seed takes the same steps."""

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except BaseException as error:  # also a death
            done.set_exception(error)
        return done


class Runs:
    """The ledger's file and its engine, which all runs share: compiled statements stay."""

    def __init__(self, folder: Path, runner: asyncio.Runner) -> None:
        self._path, self._runner = folder / "ledger.db", runner
        self._ledger = open_ledger(f"sqlite:///{self._path}")
        self._ledger.migrate()
        self._ledger.close()
        self._empty = self._path.read_bytes()

    def run(self, seed: int, *, size: int = 40, only: int | None = None) -> Outcome:
        """A world in two orders of delivery; `only` kills at one point alone, in the first."""
        world = make_world(seed, size)
        outcome = Outcome(seed, events=len(world.events))
        found = []
        for number in range(1 if only is not None else 2):
            found.append(self._course(world, f"{seed} {number}", outcome, only))
            if outcome.findings:
                return outcome
        for name in found[0]:
            if any(each.get(name) != found[0][name] for each in found):
                outcome.findings.append(f"{name} has other bytes in another order of delivery")
        return outcome

    def _course(
        self, world: World, name: str, outcome: Outcome, only: int | None
    ) -> dict[str, str]:
        fate = Fate(random.Random(f"fate {name}"), only=only)
        course = Course(world, self._new_ledger(), fate, random.Random(f"order {name}"))
        try:
            self._runner.run(course.run())
            fate.is_calm = True
            is_first = name.endswith(" 0")  # the others must come to the same
            wrong = self._runner.run(examine(course)) if is_first else verify(course.ledger)
            outcome.findings += wrong
            return papers(course)
        except Exception as error:  # it is the finding
            outcome.findings += [f"{type(error).__name__}: {error}", *_causes(error)]
            return {}
        finally:
            outcome.entries += course.added
            outcome.lives += course.lives
            outcome.met += fate.met
            outcome.kills += fate.kills
            outcome.trace = list(course.trace)

    def _new_ledger(self) -> Ledger:
        self._ledger.close()
        for each in self._path.parent.glob("ledger.db*"):
            each.unlink()
        self._path.write_bytes(self._empty)
        return self._ledger

    def close(self) -> None:
        self._ledger.close()


def _causes(error: BaseException) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return [f"{type(each).__name__}: {each}" for each in error.exceptions]
    return []


@contextmanager
def runs() -> Iterator[Runs]:
    """Ready to run; in memory where the machine has a place for files there."""
    memory = "/dev/shm"
    folder = tempfile.mkdtemp(
        prefix="weir-simulation-", dir=memory if os.access(memory, os.W_OK) else None
    )
    try:
        with hooked(), asyncio.Runner(loop_factory=InlineLoop) as runner:
            made = Runs(Path(folder), runner)
            yield made
            made.close()
    finally:
        shutil.rmtree(folder)
