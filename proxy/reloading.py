"""Reading the configuration again while everything runs: the supervisor's part.

Rules:
- The file is checked as a whole, as `weir config check` does it, before any process hears of it. A
  faulty one changes nothing: the last good one stays, and log, metrics and `weir reload` say so.
- What a running process cannot change is named and waits for a restart; the rest holds at once.
- Every child gets the same settings and says what it made of them. Nobody waits for one: who has
  not answered in time is named. A child that is started later begins with the newest.
- It is read in a process of its own: a stop or a death waits for no file.
- Who has not taken it up is told again, after a while that grows.
- Environment variables are those that `weir serve` was started with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from metering.clock import monotonic_s, now_ns
from proxy import demo_keys, telemetry
from proxy import metrics_catalogue as catalogue
from proxy.config_files import ConfigFiles, named_files
from proxy.config_leaves import Told
from proxy.config_reading import Begin, Read, ReadHere, Reading
from proxy.metrics import Metrics
from proxy.preload import preload
from proxy.registry_reloads import WHY as REGISTRY
from proxy.registry_reloads import RegistryReloads
from proxy.reload_report import ReloadReport, write_report
from proxy.running_config import taken_up, write_running
from proxy.settings import Settings
from proxy.settings_changes import Replacement, replaced
from proxy.settings_line import Answer, Change, ChildLine, Hint, Line
from proxy.supervisor_open import Opened, mint_keys, with_simulator

AGAIN_FIRST_S, AGAIN_MAX_S = 15.0, 300.0
"""After so long a child is told again that has not taken up what it was told; then after twice."""

ANSWER_S = 15.0
"""A proxy may have to load an encoding and to wait for Redis; it serves meanwhile."""

_log = telemetry.logger("supervisor")

Complete = Callable[[Settings], Settings]


@dataclass(slots=True)
class _Attempt:
    """A reload whose answers are awaited."""

    report: ReloadReport
    waiting: dict[str, int]
    """Children that have not answered, and the generation they were told."""
    deadline_s: float


@dataclass(slots=True)
class Reloads:
    """Reads the file when asked, or when it has changed, and tells the children.

    `complete` puts the command line's words over what was read. Without `read` nothing is reloaded.
    """

    opened: Opened
    lines: Mapping[str, Line]
    metrics: Metrics
    read: Read | None = None
    complete: Complete = lambda settings: settings
    begin: Begin = ReadHere
    sha256: str = ""
    """Of the file that the settings were read from, where that is known."""
    told: Told | None = None
    """The values that run, for `weir config diff`."""
    registry: RegistryReloads = field(default_factory=RegistryReloads)
    generation: int = 1
    _files: ConfigFiles | None = None
    _asked: str | None = None
    _reading: tuple[Reading, ReloadReport] | None = None
    _attempt: _Attempt | None = None
    _again_s: float = AGAIN_FIRST_S
    _again_due_s: float | None = None
    _announced: str | None = None
    _begun: dict[str, int] = field(default_factory=dict)
    """With which generation each child was forked, or which it has taken up since."""
    _last: dict[str, Any] = field(default_factory=dict)
    """The last reload that applied something, as reports tell it."""

    def __post_init__(self) -> None:
        self.metrics.set(catalogue.REGISTRY_LEFT_OUT, to=len(self.registry.left_out))
        source = self.opened.settings.source
        if self.read is not None and source is not None:
            self._files = ConfigFiles(source, named_files(self.opened.settings))
            self._files.take(self._files.named)
            self._files.taken = self.sha256 or self._files.taken  # it may have changed since
            self._show(is_failed=False)
            self._write_running()

    @property
    def hash(self) -> str | None:
        """Of the file that was read last."""
        return None if self._files is None else self._files.taken

    def ask(self, why: str) -> None:
        """Read the file at the next turn; asked many times before it, once is enough."""
        self._asked = why

    def before(self, name: str) -> Callable[[], None]:
        """What the parent does right before it forks this child."""
        return partial(self._forking, name)

    def taken_by(self, name: str) -> ChildLine:
        """In the child: its end of its line; those of the others are closed."""
        for other, line in self.lines.items():
            if other != name:
                line.close()
        return self.lines[name].take()

    def leave(self) -> None:
        """In a child that has no line: close those of the others."""
        for line in self.lines.values():
            line.close()

    def _forking(self, name: str) -> None:
        """It begins with the newest settings."""
        self.lines[name].renew()
        self._begun[name] = self.generation
        self._answered(name, Answer(self.generation), is_new=True)

    def patience_s(self) -> float | None:
        """How soon a turn is due; None when there is no hurry."""
        if self._asked is not None or self.registry.is_due:
            return 0.0
        return None if self._attempt is None and self._reading is None else 0.02

    def stop(self) -> None:
        """Whatever is being read does not matter any more."""
        if self._reading is not None:
            self._reading[0].stop()
            self._reading = None

    def turn(self) -> None:
        """Everything that is due: hear the children, look at the files, read what is new."""
        self._hear()
        now_s = monotonic_s()
        if self._attempt is not None:
            self._close_if_done(now_s)
        elif self._reading is not None:
            self._take_up(now_s)
        elif self.registry.is_due:
            self._begin_registry(now_s)
        elif self._asked is not None:
            why, self._asked = self._asked, None
            self._begin(why, now_s)
        elif self._watches and self._files is not None and self._files.has_changed(now_s):
            self._begin("the file has changed", now_s)
        elif self._again_due_s is not None and now_s >= self._again_due_s:
            if self.registry.is_current:
                self._begin_registry(now_s)
            else:
                self._begin("not everywhere yet", now_s)

    def _hear(self) -> None:
        for name, line in self.lines.items():
            for said in line.heard():
                if isinstance(said, Answer):
                    self._answered(name, said)
                elif not isinstance(said, Hint):
                    self.registry.hear(said.version, self.opened.settings.registry)
                elif said.announced != self._announced:
                    self._announced = said.announced
                    self.ask("announced in Redis")

    @property
    def _watches(self) -> bool:
        return self.opened.settings.server.watch_config

    def _begin(self, why: str, now_s: float) -> None:
        report = ReloadReport(why=why, started_ns=now_ns())
        if self.read is None or self._files is None:
            _log.warning("configuration_not_reloaded", cause="it did not come from a file")
            return
        self._again_due_s, self.registry.is_current = None, False
        self._files.take(self._files.named)
        self._reading = self.begin(self.read, self.leave), report
        self._take_up(now_s)

    def _begin_registry(self, now_s: float) -> None:
        if self._files is None:
            return
        self._again_due_s, self.registry.is_current = None, True
        report = ReloadReport(why=REGISTRY, started_ns=now_ns())
        self._reading = self.begin(self.registry.reader(), self.leave), report
        self._take_up(now_s)

    def _take_up(self, now_s: float) -> None:
        """Go on with what the reader found, once it has."""
        assert self._reading is not None
        reading, report = self._reading
        found = reading.found()
        if found is None:
            return
        self._reading = None
        if found.settings is None:
            self._refuse(report, found.faults)
            return
        try:
            fresh = self._completed(found.settings)
        except (OSError, demo_keys.KeyFileError) as failure:
            self._refuse(report, [{"message": str(failure)}])
            return
        except Exception as failure:  # noqa: BLE001 - no file may end the process that keeps all
            cause = f"it cannot be read, by a fault of ours: {failure!r}"
            self._refuse(report, [{"message": cause}])
            return
        of_file = not self.registry.is_current
        if of_file and (faults := self.registry.against(found)):
            self._refuse(report, faults)
            return
        for warning in found.warnings if of_file else ():
            _log.warning("configuration", detail=warning)
        self.registry.take(found, self.metrics)
        change = replaced(self.opened.settings, fresh)
        if found.told is not None:
            before = found.told if self.told is None else self.told
            self.told = taken_up(before, found.told, change.waiting)
            self._write_running()
        self._tell(report, change, now_s)

    def _write_running(self) -> None:
        if self.told is None:
            return
        try:
            write_running(self.opened.settings.data_dir, self.told)
        except OSError as failure:
            _log.error("running_configuration_not_written", cause=failure.strerror)

    def _completed(self, settings: Settings) -> Settings:
        """With all that children need to know, as at the start."""
        opened = self.opened
        settings = self.complete(settings)
        settings = with_simulator(settings, opened.simulator)
        settings, opened.keys, opened.keys_refused = mint_keys(settings)
        if settings.redis.url is None and opened.redis is not None:
            url = opened.settings.redis.url
            settings = replace(settings, redis=replace(settings.redis, url=url))
        if settings.admin is not None and settings.admin.port == 0 and opened.settings.admin:
            port = opened.settings.admin.port
            settings = replace(settings, admin=replace(settings.admin, port=port))
        if settings.server.port == 0:
            port = opened.settings.server.port
            settings = replace(settings, server=replace(settings.server, port=port))
        return settings

    def _tell(self, report: ReloadReport, found: Replacement, now_s: float) -> None:
        assert self._files is not None
        is_of_file = not self.registry.is_current
        renews = is_of_file and self._files.take(named_files(found.settings))
        report.applied, report.waiting = list(found.applied), list(found.waiting)
        if renews:
            report.applied.append("the files that it names")
        behind = {name for name, begun in self._begun.items() if begun != self.generation}
        if not report.applied and not behind:
            self._count("unchanged")
            report.before = self._last
            self._finish(report, is_failed=False)
            return
        self.opened.settings = found.settings
        self.generation += 1
        preload(found.settings)
        change = Change(self.generation, found.settings, renews_files=renews)
        told = dict.fromkeys(self._begun, self.generation)
        self._attempt = _Attempt(report, told, now_s + ANSWER_S)
        for name in list(told):
            if not self.lines[name].send(change):
                self._answered(name, Answer(self.generation, "it does not take messages"))
        self._close_if_done(now_s)

    def _refuse(self, report: ReloadReport, faults: list[dict[str, Any]]) -> None:
        report.faults = faults
        if self.registry.is_current:
            self.registry.refuse(faults)
            self._count("refused")
            return
        for each in faults:
            _log.error("configuration_fault", file=str(self.opened.settings.source), **each)
        _log.error(
            "configuration_refused",
            why=report.why,
            faults=len(faults),
            remedy="the last good one stays in use; `weir config check` says what is wrong",
        )
        self._count("refused")
        self._finish(report, is_failed=True)

    def _answered(self, name: str, answer: Answer, *, is_new: bool = False) -> None:
        if answer.cause is None:
            self._begun[name] = answer.generation
        attempt = self._attempt
        if attempt is None or attempt.waiting.get(name) != answer.generation:
            return
        del attempt.waiting[name]
        done = "started with it" if is_new else "applied"
        attempt.report.processes[name] = done if answer.cause is None else f"failed: {answer.cause}"

    def _close_if_done(self, now_s: float) -> None:
        attempt = self._attempt
        if attempt is None or (attempt.waiting and now_s < attempt.deadline_s):
            return
        self._attempt = None
        report = attempt.report
        report.processes |= dict.fromkeys(attempt.waiting, "failed: it did not answer in time")
        failed = {
            name: said for name, said in report.processes.items() if said.startswith("failed")
        }
        self._count("failed" if failed else "applied")
        if failed:
            _log.error("configuration_not_everywhere", generation=self.generation, **failed)
            self._again_due_s = now_s + self._again_s
            self._again_s = min(2 * self._again_s, AGAIN_MAX_S)
        else:
            self._again_s = AGAIN_FIRST_S
        self._finish(report, is_failed=bool(failed))

    def _finish(self, report: ReloadReport, *, is_failed: bool) -> None:
        assert self._files is not None
        if self.registry.is_current:  # what became of the file is not touched by it
            version = self.opened.settings.registry
            self.registry.finish(report.applied, report.processes, version)
            self.metrics.set(catalogue.CONFIG_GENERATION, to=self.generation)
            return
        report.ok, report.generation = not is_failed, self.generation
        report.sha256, report.finished_ns = self._files.taken, now_ns()
        if not report.faults:
            _log.info(
                "configuration_reloaded",
                why=report.why,
                generation=self.generation,
                applied=report.applied,
                needs_a_restart=report.waiting,
                processes=report.processes,
            )
        if report.applied:
            self._last = {
                "why": report.why,
                "finished_ns": report.finished_ns,
                "applied": report.applied,
            }
        self._show(is_failed=is_failed)
        try:
            write_report(self.opened.settings.data_dir, report)
        except OSError as failure:
            _log.error("reload_report_not_written", cause=failure.strerror)

    def _count(self, result: str) -> None:
        is_registry = self.registry.is_current
        counter = catalogue.REGISTRY_RELOADS if is_registry else catalogue.CONFIG_RELOADS
        self.metrics.add(counter, result)

    def _show(self, *, is_failed: bool) -> None:
        assert self._files is not None
        metrics = self.metrics
        metrics.set(catalogue.CONFIG_FAILED, to=is_failed)
        metrics.set(catalogue.CONFIG_GENERATION, to=self.generation)
        if not is_failed:
            metrics.set(catalogue.CONFIG_HASH, to=int(self._files.taken[:12], 16))
            metrics.set(catalogue.CONFIG_LOADED, to=now_ns() // 1_000_000_000)
