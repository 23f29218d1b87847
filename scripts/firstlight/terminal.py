"""What a person sees of a run: progress in place of Snakemake's blocks of each job, errors in a paragraph."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import threading
import time

from . import clock, textfile
from .job import FAILED, NOTE, named
from .progress import Progress

MOST = 10  # notes of a rule that are shown as they come; the rest are counted
PAUSE = 10.0  # seconds between lines where the terminal is a file, at least a twentieth of the run so far
SHORT = 3.0  # the same where a stage is complete
TICK = 1.0
SKEW = 5.0  # seconds by which the clock of another machine may be behind
CLEAR = "\r\x1b[K"

# What Snakemake says before it says that a run begins.
CHATTER = ("Assuming unrestricted shared filesystem usage.", "Building DAG of jobs...")
REASONS = ("Some jobs were triggered by provenance", "Rules with provenance triggered")  # of a dry-run
NOTHING = "Nothing to be done"
STOPPING = ("Terminating processes on user request", "Will exit after finishing")
ENDS = ("Exiting because a job execution failed", "At least one job did not complete")
OF_A_JOB = ("CalledProcessError", "SpawnedJobError")  # the log of the job says more
AGAIN = "Trying to restart job"
# Of a cluster: the first are what its executor says where no account is set, and Slurm takes the user's own.
HARMLESS = ("No SLURM account given", "No account was given", "Unable to guess SLURM account")
STOPPED_BY_SLURM = re.compile(r"slurmstepd[^:]*: error: (.*(?:exceeded memory limit|DUE TO|CANCELLED|oom).*)", re.I)
STATE = re.compile(r"SLURM status is: '([A-Z_ ]+)|The error message was '(.+?)'", re.S)
BY_USER = ("SIGINT", "status 130")


class _Job:
    """A job that was begun: its name as people know it, its rule, its log, its files."""

    def __init__(self, name: str, rule: str, record):
        self.name, self.rule = name, rule
        self.log = next(iter(record.log), "")
        self.outputs = [str(path).partition(" (")[0] for path in record.output]
        self._begun = time.time()

    def said(self, beginning: str) -> list[str]:
        """Lines of its log that begin so, without the beginning; of a log that is an earlier run's, none."""
        try:
            if os.path.getmtime(self.log) < self._begun - SKEW:
                return []
            lines = (textfile.read(self.log) or "").splitlines()
        except OSError:
            return []
        return [line[len(beginning) :].strip() for line in lines if line.startswith(beginning)]


class Terminal(logging.Handler):
    """Follows the records of Snakemake's logger, which has them for all executors, and says what matters.

    stream      where to
    quiet       what is not to be said, of "progress", "all" (Snakemake's --quiet)
    plain       leave all to Snakemake: --verbose and the like
    dry         a dry-run: its tables are Snakemake's
    idle        called where nothing is to be done
    """

    def __init__(self, stream=None, quiet=(), plain: bool = False, dry: bool = False, clock=time.monotonic):
        super().__init__()
        self.stream = stream or sys.stderr
        self.plain, self.dry, self.clock = plain, dry, clock
        self.mute, self.silent = "all" in quiet, bool({"all", "progress"} & set(quiet))
        self.idle = lambda: None
        self.begun = clock()
        self.running = self.stopped = False
        self._failed, self._again = set(), False  # jobs that failed and were not made since; whether that was said
        self.results = ""  # folder of the products
        self.starts = ""  # file of what jobs said before they opened their logs
        self.outputs: list[str] = []  # of jobs that are done
        self._progress: Progress | None = None
        self._jobs, self._notes, self._said, self._signals = {}, {}, set(), {}
        self._status, self._last, self._told = "", self.begun, None
        self._lock = threading.RLock()
        self._ticking = threading.Event()

    # Saying

    def say(self, *lines: str) -> None:
        """Say lines; below them the line of progress stays."""
        with self._lock:
            text = "".join(f"{line}\n" for line in lines)
            if text:
                self._write((CLEAR if self._status else "") + text + self._status)

    def status(self, text: str) -> None:
        """Rewrite the last line, on a real terminal."""
        with self._lock:
            width = shutil.get_terminal_size().columns - 1
            self._status = text if len(text) <= width else text[: width - 1] + "…"
            self._write(CLEAR + self._status)

    def reading(self, done: int, total: int) -> None:
        """How far the reading of new frames is."""
        text = f"reading new frames: {done} of {total}"
        if self.silent:
            return
        if self.live:
            if done == total or done % 20 == 0:
                self.status("" if done == total else text)
        elif done == total or done % 500 == 0:
            self.say(text)

    def done_words(self, lines: list[str]) -> None:
        """The last words of a run that came to its end."""
        if not self.mute:
            minutes, seconds = divmod(round(self.clock() - self.begun), 60)
            self.say(f"Done in {f'{minutes} min ' * (minutes > 0)}{seconds} s.", *lines)

    def failed_words(self) -> None:
        """The last words of a run that did not."""
        self.end()
        done, total = self._progress.total() if self._progress else (0, 0)
        again = f"What is done stays done ({done} of {total} jobs):"
        if self.stopped:
            self.say(f"Stopped. {again} say the same again to go on.")
        elif self._failed:
            jobs = "A job" if len(self._failed) == 1 else f"{len(self._failed)} jobs"
            self.say(f"{jobs} failed, as said above. {again} mend it and say the same again.")

    def stop(self, reason: str) -> None:
        """End the run here, for a reason in plain words."""
        self.end()
        self.say(reason)
        sys.exit(1)

    def end(self) -> None:
        """Take the line of progress away."""
        self._ticking.set()
        if self.starts:
            textfile.remove_empty(self.starts, also_filled=self.stopped)
        if self._status:
            self.status("")

    @property
    def live(self) -> bool:
        """Whether lines can be rewritten."""
        return bool(getattr(self.stream, "isatty", lambda: False)()) and os.environ.get("TERM") != "dumb"

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):  # nobody reads any more: no reason to end a night
            pass

    # What Snakemake says

    def takes(self, record) -> bool:
        """Whether a record is said here, or kept quiet, so that Snakemake says nothing of it."""
        if self.plain:
            return False
        event, text = _event(record), record.getMessage()
        if event in ("error", "workflow_started") or text.startswith((*CHATTER, NOTHING, *ENDS)):
            return True
        if self.dry:
            return text.startswith(REASONS) or (event == "run_info" and record.stats == self._told)
        return self.running

    def emit(self, record) -> None:
        """Take a record of Snakemake. A fault in here must not end a night."""
        if self.plain:
            return
        try:
            self._take(record, _event(record))
        except Exception as error:
            self.plain = True
            self._write(f"progress is not shown any more: {type(error).__name__}: {error}\n")

    def _take(self, record, event: str) -> None:
        text = record.getMessage()
        if event == "workflow_started":
            self.running = True
        elif event == "error":
            self._error(text, getattr(record, "exception", ""))
        elif text.startswith(NOTHING):
            self.end()
            self.idle()
        elif self.dry:
            self._told = getattr(record, "stats", self._told)
        elif event == "run_info":
            self._begin(record.stats)
        elif event == "job_info":
            self._jobs[record.jobid] = _Job(named(record.rule_name, record.wildcards), record.rule_name, record)
            if self._progress:
                self._progress.start(record.jobid, record.rule_name, self.clock())
        elif event == "job_finished":
            self._finished(record.job_id, text)
        elif event == "group_error":
            self._group_failed(record)
        elif event == "job_error":
            if not getattr(record, "indent", False):  # else one of a group, of which all is said
                self._job_failed(record)
        elif text.startswith(AGAIN):
            if not (self._again or self.mute):
                self.say("It is tried again, with more memory and time.")
            self._again = True
        elif text.startswith(STOPPING):
            self.stopped = True
            self.status("stopping") if self.live else None
        elif record.levelno >= logging.WARNING and self.running and not text.startswith((*ENDS, *HARMLESS)):
            self.say(_without_code(text))

    # A run

    def _begin(self, jobs: dict) -> None:
        self.begun = self._last = self.clock()
        self._progress = Progress(jobs, self.begun)
        if self.silent or not self._progress.jobs:
            return
        counts = ", ".join(f"{stage} {total}" for stage, (_, total) in self._progress.stages().items())
        self.say(f"to do: {counts}")
        threading.Thread(target=self._tick, daemon=True).start()

    def _tick(self) -> None:
        while not self._ticking.wait(TICK):
            self._show()

    def _show(self, whatever: bool = False) -> None:
        """The state of things: on a terminal always, into a file now and then, or when a stage is complete."""
        with self._lock:
            if self.silent or self._ticking.is_set() or not self._progress:
                return
            now = self.clock()
            if self.live:
                self.status("stopping" if self.stopped else self._progress.short(now))
            elif now - self._last > (SHORT if whatever else max(PAUSE, (now - self.begun) / 20)):
                self._last = now
                minutes, seconds = divmod(int(now - self.begun), 60)
                self.say(f"{minutes:3d}:{seconds:02d}  {self._progress.line(now)}")

    def _finished(self, job, text: str) -> None:
        begun = self._jobs.pop(job, None)
        self._failed.discard(job)
        rule = begun.rule if begun else (re.search(r"Rule: (\w+)", text) or [None, None])[1]
        stage = self._progress.finish(job, self.clock(), rule) if self._progress else None
        if begun:
            self.outputs += begun.outputs
            for note in begun.said(NOTE):
                self._note(note, rule)
        if not self.live:
            self._show(whatever=stage is not None)

    def _note(self, note: str, rule: str | None) -> None:
        """Say what a job noted; of what is true of many frames, the first."""
        reason = note.partition(": left out: ")[2] or note
        if reason in self._said or self.mute:
            return
        self._said.add(reason)
        self._notes[rule] = self._notes.get(rule, 0) + 1
        if self._notes[rule] <= MOST:
            self.say(note)
        elif self._notes[rule] == MOST + 1:
            self.say(f"there is more to tell of {rule}: see the logs")

    # Errors

    def _job_failed(self, record) -> None:
        begun = self._drop(record.jobid, record.rule_name, record)
        signal = self._signals.pop(record.thread, "")
        if self.stopped or any(word in signal for word in BY_USER):
            return
        self._failed.add(record.jobid)
        reason, log = next(iter(begun.said(FAILED)), ""), begun.log
        if not reason:  # behind its own log stands that of the cluster
            reason, log = _by_cluster(getattr(record, "rule_msg", ""), list(record.log)[1:]) or (
                _without_a_word(signal, log, self.starts),
                log,
            )
        self._say_failed(begun, begun.name, reason, log)

    def _group_failed(self, record) -> None:
        """Jobs that a cluster ran as one: the reasons of their own, else what became of them together."""
        jobs = [logging.makeLogRecord(one) for one in record.job_error_info]
        begun = [self._drop(one.jobid, one.rule_name, one) for one in jobs]
        if self.stopped:
            return
        self._failed |= {one.jobid for one in jobs}
        reasons = [(one, reason) for one in begun for reason in one.said(FAILED)[:1]]
        for one, reason in reasons:
            self._say_failed(one, one.name, reason, one.log)
        if not reasons:
            name, log = begun[0].name + (f" and {len(begun) - 1} more" if len(begun) > 1 else ""), begun[0].log
            known = _by_cluster("", record.aux_logs) or (_without_a_word("", log, self.starts), log)
            self._say_failed(begun[0], name, *known)

    def _drop(self, number, rule: str, record) -> _Job:
        if self._progress:
            self._progress.drop(number)
        return self._jobs.pop(number, None) or _Job(rule, rule, record)

    def _say_failed(self, begun: _Job, name: str, reason: str, log: str) -> None:
        self._again = False
        for note in begun.said(NOTE):
            self._note(note, begun.rule)
        if reason not in self._said:  # many jobs may fail for one reason
            self._said.add(reason)
            self.say(
                f"Failed: {name}: {reason}"
                + (f" (details: {log.removeprefix(os.getcwd() + os.sep)})" if os.path.exists(log) else "")
            )

    def _error(self, text: str, exception: str) -> None:
        """An exception that Snakemake caught, in a paragraph."""
        if any(name in text for name in OF_A_JOB):
            self._signals[threading.get_ident()] = text.splitlines()[-1] if "died with" not in text else text
            return
        if self.stopped or any(end in text for end in ENDS):
            return
        if clock.SAID in text:
            if clock.SAID not in self._said and self.results:
                self._said.add(clock.SAID)
                self.say(clock.bring_back(self.results))
            return
        self.end()
        self.say(in_words(text, exception))


def attach(workflow) -> Terminal:
    """A terminal that takes the place of Snakemake's own, in the process that runs the jobs; elsewhere, or if this Snakemake is
    of another make than is known, one that only says what it is told to."""
    terminal = Terminal(plain=True)
    if not workflow.is_main_process:
        return terminal
    sys.excepthook = _excepthook(sys.excepthook, terminal)
    try:
        settings = workflow.output_settings
        quiet = {getattr(kind, "name", str(kind)).lower() for kind in settings.quiet or ()}
        plain = settings.verbose or settings.debug_dag or settings.printshellcmds
        terminal = Terminal(None, quiet, plain, settings.dryrun)
        sys.excepthook = _excepthook(sys.excepthook, terminal)
        logger = logging.getLogger("snakemake.logging")
        for handler in logger.handlers:
            if handler.get_name() == "DefaultStreamHandler":
                handler.addFilter(lambda record: not terminal.takes(record))
        logger.addHandler(terminal)
    except AttributeError:
        pass
    return terminal


def in_words(text: str, exception: str = "") -> str:
    """What Snakemake says of an exception, without places in the code; a way out where one is known."""
    lines = _without_code(text)
    if exception == "LockException":
        return (
            f"Another run is at work in {os.getcwd()}: wait until it has ended. If there is none (after a crash or a power "
            "failure), say the same once with --unlock, then again."
        )
    if found := re.search(r"No rule to produce (.+?) \(if", lines):
        return f"Nothing makes {found[1]}: a file's name must be whole, as in results/stacks/M42/R.fits; see README for others."
    if exception == "MissingRuleException":
        return lines
    if text.startswith("Traceback"):
        return (
            f"Failed: {lines}; this is a mistake in firstlight or a library (details: the newest log in .snakemake/log)"
        )
    return lines


def _event(record) -> str:
    event = getattr(record, "event", None)
    return str(getattr(event, "value", event) or "")


def _without_code(text: str) -> str:
    """A message without its places in the code, and of a traceback the last line."""
    if text.startswith("Traceback"):
        return next((line for line in reversed(text.splitlines()) if line.strip()), text)
    text = re.sub(r'^\w+( in rule \w+)?( in file "[^"]*", line \d+)?:\n', "", text)
    text = re.sub(r'^(\w+)( in rule \w+)?( in file "[^"]*", line \d+)\.?$', r"\1", text)
    return "\n".join(line for line in text.splitlines() if not re.match(r'\s+File "', line)).strip()


def _by_cluster(message: str, logs) -> tuple[str, str] | None:
    """Why a cluster ended a job or did not take it, by its own log, else by what its executor says; and that log."""
    for log in logs:
        if found := STOPPED_BY_SLURM.search(textfile.read(log) or ""):
            return f"the cluster ended it: {found[1].strip(' *')}", log
    if found := STATE.search(message or ""):
        said = f"the cluster ended it: {found[1].lower()}" if found[1] else f"the cluster did not take it: {found[2]}"
        return said, next(iter(logs), "")
    return None


def _without_a_word(signal: str, log: str, starts: str) -> str:
    """Why a job ended that left no reason in its log; `starts` has what jobs said before they opened theirs."""
    if "SIGKILL" in signal or "status 137" in signal:
        return "killed by the system, most likely for want of memory: fewer jobs at a time (--cores 1) need less of it"
    try:
        if log and shutil.disk_usage(os.path.dirname(log) or ".").free < 1e6:
            return "no space left on the disk of the results: make room there"
    except OSError:
        pass
    if said := (starts and textfile.read(starts) or "").splitlines():
        return f"it could not begin: {said[-1]} (details: {starts})"
    return f"it ended without a word{f' ({signal.strip()})' if signal else ''}"


def _excepthook(before, terminal: Terminal):
    """Ctrl-C while a run is planned is no fault."""

    def hook(kind, error, trace):
        if not issubclass(kind, KeyboardInterrupt):
            return before(kind, error, trace)
        terminal.end()
        terminal.say("Stopped before anything was made.")

    return hook
