"""A real Grid Engine of one machine, from Debian's packages, to try profiles/generic out.

    python tests/gridengine.py FOLDER COMMAND ...

brings up sge_qmaster and sge_execd in a folder, runs the command with them, and takes them down again. Nothing outside the
folder is written, the system's own cell is not used, and only processes that were started here are ended.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from slurm import Missing, descendants, free_ports

PROGRAMS = Path("/usr/lib/gridengine")  # the libraries in it are looked for here, and nowhere else
DEFAULTS = Path("/usr/share/gridengine")
PACKAGES = "gridengine-master gridengine-exec gridengine-client"
SLOTS = 4

BOOTSTRAP = """\
admin_user none
default_domain none
ignore_fqdn true
spooling_method berkeleydb
spooling_lib libspoolb
spooling_params {folder}/spool/db
binary_path {programs}
qmaster_spool_dir {folder}/spool/qmaster
security_mode none
listener_threads 2
worker_threads 2
scheduler_threads 1
"""
ENVIRONMENT = """\
pe_name smp
slots 99
user_lists NONE
xuser_lists NONE
start_proc_args NONE
stop_proc_args NONE
allocation_rule $pe_slots
control_slaves FALSE
job_is_first_task TRUE
urgency_slots min
accounting_summary FALSE
qsort_args NONE
"""
# What Grid Engine's editor is given to change: a queue on this machine that no load closes; a scheduler that does not wait.
QUEUE = "s/^pe_list.*/pe_list smp/;s/^hostlist.*/hostlist {host}/;s/^slots.*/slots {slots}/;s/^load_thr.*/load_thresholds NONE/"
SCHEDULER = (
    "s/^schedule_interval.*/schedule_interval 0:0:1/;s/^flush_submit_sec.*/flush_submit_sec 1/;"
    "s/^flush_finish_sec.*/flush_finish_sec 1/;s/^job_load_adj.*/job_load_adjustments NONE/"
)


@dataclass
class GridEngine:
    """A running Grid Engine; `environment` is what its commands need. A context manager: leaving it ends all that it began."""

    folder: Path
    daemons: dict[str, subprocess.Popen] = field(default_factory=dict)

    def __post_init__(self):
        needed = [
            *(PROGRAMS / name for name in ("sge_qmaster", "sge_execd", "sge_shepherd", "qsub")),
            DEFAULTS / "util",
        ]
        if missing := [path.name for path in needed if not path.exists()]:
            raise Missing(f"no {', '.join(missing)} here: Debian's packages {PACKAGES} have them")
        if os.geteuid():
            raise Missing("Grid Engine starts jobs for root only")
        self.folder = self.folder.resolve()
        self.user, self.host = getpass.getuser(), socket.gethostname()
        ports = dict(zip(("SGE_QMASTER_PORT", "SGE_EXECD_PORT"), map(str, free_ports(2)), strict=True))
        own = {"SGE_ROOT": str(self.folder), "SGE_CELL": "default", "SGE_CLUSTER_NAME": "firstlight", **ports}
        path = os.pathsep.join([str(PROGRAMS), os.environ.get("PATH", "")])
        self.environment = os.environ | own | {"PATH": path}

    def __enter__(self) -> GridEngine:
        try:
            self._prepare()
            self.start("sge_qmaster")
            self._until(
                lambda: self.run("qconf", "-sh", check=False).split() == [self.host], "sge_qmaster does not answer"
            )
            self.run("qconf", "-as", self.host)
            self.run("qconf", "-Ap", self._written("pe", ENVIRONMENT))
            self._edited("-aq", "all.q", QUEUE.format(host=self.host, slots=SLOTS))
            self._edited("-msconf", None, SCHEDULER)
            self.start_node()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    # --- Parts
    def _prepare(self) -> None:
        """An empty cell, as the package's own script makes it."""
        common = self.folder / "default" / "common"
        common.mkdir(parents=True)
        for name in ("qmaster/job_scripts", "execd", "db"):
            (self.folder / "spool" / name).mkdir(parents=True)
        architecture = subprocess.check_output([DEFAULTS / "util" / "arch"], env=self.environment, text=True).strip()
        for name in ("bin", "utilbin", "lib"):
            (self.folder / name).mkdir()
            (self.folder / name / architecture).symlink_to(PROGRAMS)
        (self.folder / "util").symlink_to(DEFAULTS / "util")
        (common / "bootstrap").write_text(BOOTSTRAP.format(folder=self.folder, programs=PROGRAMS))
        (common / "host_aliases").write_text(f"{self.host} localhost\n")
        (common / "act_qmaster").write_text(f"{self.host}\n")
        spooling = str(PROGRAMS / "spooldefaults")
        self.run(str(PROGRAMS / "spoolinit"), "berkeleydb", "libspoolb", str(self.folder / "spool" / "db"), "init")
        self.run(spooling, "configuration", self._written("conf", self._configuration()))
        self.run(spooling, "complexes", str(DEFAULTS / "util" / "resources" / "centry"))
        self.run(spooling, "usersets", str(DEFAULTS / "util" / "resources" / "usersets"))
        self.run(spooling, "managers", self.user)

    def _configuration(self) -> str:
        """The package's defaults; jobs of root may run, and no mail is sent."""
        own = {
            "execd_spool_dir": self.folder / "spool" / "execd",
            "min_uid": 0,
            "min_gid": 0,
            "mailer": "/bin/true",
            "load_report_time": "00:00:02",
            "max_unheard": "00:00:20",
        }
        lines = (DEFAULTS / "default-configuration").read_text().splitlines()
        return (
            "\n".join(f"{word} {own[word]}" if (word := line.split(" ")[0]) in own else line for line in lines) + "\n"
        )

    def _written(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def _edited(self, option: str, name: str | None, change: str) -> None:
        """What qconf lets an editor do."""
        editor = Path(self._written("editor", f"#!/bin/sh\nsleep 1\nexec sed -i '{change}' \"$1\"\n"))
        editor.chmod(0o755)
        self.run("qconf", option, *([name] if name else []), EDITOR=str(editor))

    def start(self, name: str) -> None:
        """Start a daemon in the foreground, a child of this process, in a session of its own."""
        with open(self.folder / f"{name}.out", "ab") as out:
            self.daemons[name] = subprocess.Popen(
                [PROGRAMS / name], env=self.environment | {"SGE_ND": "1"}, cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    def start_node(self) -> None:
        """Start what runs jobs, and wait until it takes them."""
        self.start("sge_execd")
        self._until(lambda: self._state() == "", "the queue does not open")

    def _state(self) -> str:
        """The state of the queue: "" if it takes jobs."""
        lines = [
            line.split() for line in self.run("qstat", "-f", check=False).splitlines() if line.startswith("all.q@")
        ]
        return "?" if not lines or lines[0][3] == "-NA-" else "".join(lines[0][5:])

    # --- Commands
    def run(self, *command: str, check: bool = True, **variables: str) -> str:
        """What one of Grid Engine's commands prints; RuntimeError with it where it fails."""
        done = subprocess.run(
            [shutil.which(command[0], path=self.environment["PATH"]), *command[1:]],
            env=self.environment | variables, cwd=self.folder, text=True, timeout=60,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout.strip()}")
        return done.stdout

    def jobs(self) -> dict[str, str]:
        """{number: state} of what is queued or runs."""
        rows = [line.split() for line in self.run("qstat", check=False).splitlines()[2:]]
        return {row[0]: row[4] for row in rows}

    def lose(self) -> None:
        """End the jobs at work and what they began, as when their machine's power fails; the queue forgets them."""
        jobs = list(self.jobs())
        doomed = descendants([self.daemons["sge_execd"].pid])
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.run("qdel", "-f", *jobs, check=False)

    def end(self, name: str) -> None:
        """Stop a daemon as its service would be stopped."""
        one = self.daemons.pop(name)
        one.terminate()
        try:
            one.wait(30)
        except subprocess.TimeoutExpired:
            one.kill()
            one.wait()

    def stop(self) -> None:
        """End all: the jobs, then the daemons, the youngest first."""
        if "sge_qmaster" in self.daemons:
            with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
                self.run("qdel", "-u", self.user, check=False)
                self._until(lambda: not self.jobs(), "jobs do not end", 20)
        for name in reversed(list(self.daemons)):
            self.end(name)

    def _until(self, true, otherwise: str, limit: float = 60.0) -> None:
        end = time.monotonic() + limit
        while not true():
            if time.monotonic() > end:
                raise RuntimeError(f"{otherwise}; see the logs in {self.folder}")
            time.sleep(0.2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new one")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    try:
        with GridEngine(given.folder) as queue:
            return subprocess.run(given.command, env=queue.environment).returncode
    except Missing as error:
        print(error, file=sys.stderr)
        return 77


if __name__ == "__main__":
    sys.exit(main())
