"""A real Slurm of two nodes on one machine, from Debian's packages: for the cluster test, and to try the profile out.

    python tests/slurm.py FOLDER COMMAND ...

brings up munged, mariadbd (on a socket), slurmdbd, slurmctld and two slurmd in a folder, runs the command with them, and
takes them down again. Nothing outside the folder is written, no service of the system is used, and only processes that
were started here are ended. Both nodes claim to have more cores and memory than there may be: what is tested is Slurm, not
speed.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

NODES = ("n1", "n2")
CPUS, MEMORY = 2, 6000  # of each node: cores, MB
PROGRAMS = "munged mariadbd mariadb-install-db slurmdbd slurmctld slurmd sbatch squeue sacct scancel sacctmgr".split()
PACKAGES = "slurmctld slurmd slurmdbd slurm-client munge mariadb-server"
ELSEWHERE = "/usr/sbin", "/sbin"  # where daemons are, which users do not have in PATH

SLURM_CONF = """\
ClusterName=firstlight
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd_port}
AccountingStoragePass={folder}/munge.socket
MpiDefault=none
ReturnToService=2
MinJobAge=600
SlurmdTimeout=10
SlurmctldTimeout=30
InactiveLimit=0
KillWait=5
Waittime=0
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
PartitionName=all Nodes={names} Default=YES MaxTime=INFINITE State=UP
"""
NODE_CONF = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory={memory} State=UNKNOWN\n"
)
DBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdPort={dbd_port}
SlurmUser={user}
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser={user}
StorageLoc=slurm
CommitDelay=0
"""


class Missing(RuntimeError):
    """What this machine lacks for a Slurm of its own; the message names it and the packages that bring it."""


@dataclass
class Slurm:
    """A running Slurm; `environment` is what its commands need. A context manager: leaving it ends all that it began."""

    folder: Path
    daemons: dict[str, subprocess.Popen] = field(default_factory=dict)

    def __post_init__(self):
        if missing := [name for name in PROGRAMS if found(name) is None]:
            raise Missing(f"no {', '.join(missing)} here: Debian's packages {PACKAGES} have them")
        self.folder = self.folder.resolve()
        self.user, self.host = getpass.getuser(), socket.gethostname().split(".")[0]
        # The paths of MariaDB's and munge's sockets may not be long.
        self.ports = dict(zip(("ctld", "dbd", *NODES), free_ports(2 + len(NODES)), strict=True))
        path = os.pathsep.join([str(self.folder / "bin"), os.environ.get("PATH", "")])
        self.environment = os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": path}

    def __enter__(self) -> Slurm:
        try:
            self._prepare()
            self._munge()
            self._database()
            self.start("slurmdbd", "-D")
            self.wait("sacctmgr", "-n", "show", "cluster")
            self.run("sacctmgr", "-i", "add", "cluster", "firstlight")
            self.run("sacctmgr", "-i", "add", "account", "astronomy")
            self.run("sacctmgr", "-i", "add", "user", self.user, "account=astronomy")
            self.start_controller()
            for name in NODES:
                self.start_node(name)
            self.wait_for_nodes()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    # --- Parts
    def _prepare(self) -> None:
        self.folder.mkdir(parents=True)  # a new one: what lies there is of another Slurm
        (self.folder / "state").mkdir(exist_ok=True)
        values = {
            "folder": self.folder,
            "user": self.user,
            "host": self.host,
            "names": ",".join(NODES),
            "ctld_port": self.ports["ctld"],
            "dbd_port": self.ports["dbd"],
        }
        nodes = [
            NODE_CONF.format(name=name, host=self.host, port=self.ports[name], cpus=CPUS, memory=MEMORY)
            for name in NODES
        ]
        text = SLURM_CONF.format(**values)
        head, partition = text.rsplit("PartitionName", 1)
        (self.folder / "slurm.conf").write_text(head + "".join(nodes) + "PartitionName" + partition)
        dbd = self.folder / "slurmdbd.conf"
        dbd.write_text(DBD_CONF.format(**values))
        dbd.chmod(0o600)
        self._srun()

    def _srun(self) -> None:
        """A srun that knows where the configuration is: within a job Snakemake takes all variables SLURM_... away."""
        own = self.folder / "bin" / "srun"
        own.parent.mkdir()
        own.write_text(f'#!/bin/sh\nSLURM_CONF="{self.folder}/slurm.conf" exec {found("srun")} "$@"\n')
        own.chmod(0o755)

    def _munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        names = {name: f"--{name}-file={self.folder}/munge.{name}" for name in ("key", "pid", "log", "seed")}
        self.start("munged", "--foreground", "--force", f"--socket={self.folder}/munge.socket", *names.values())
        self._until(lambda: (self.folder / "munge.socket").exists(), "munged did not make its socket")

    def _database(self) -> None:
        data, sock = self.folder / "mariadb", self.folder / "mariadb.socket"
        common = ["--no-defaults", f"--datadir={data}", f"--user={self.user}"]
        subprocess.run(
            [found("mariadb-install-db"), *common, "--auth-root-authentication-method=socket", "--skip-test-db"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
        )  # fmt: skip
        quick = [
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-buffer-pool-size=64M",
            "--innodb-lock-wait-timeout=900",
        ]
        self.start("mariadbd", *common, f"--socket={sock}", "--skip-networking", *quick)
        self._until(sock.exists, "mariadbd did not make its socket")

    def start(self, name: str, *arguments: str, called: str = "") -> None:
        """Start a daemon in the foreground, a child of this process, in a session of its own."""
        with open(self.folder / f"{called or name}.out", "ab") as out:
            self.daemons[called or name] = subprocess.Popen(
                [found(name), *arguments], env=self.environment | {"MYSQL_UNIX_PORT": str(self.folder / "mariadb.socket")},
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    def start_controller(self) -> None:
        self.start("slurmctld", "-D", "-i")
        self.wait("scontrol", "ping")

    def start_node(self, name: str) -> None:
        self.start("slurmd", "-D", "-N", name, called=f"slurmd-{name}")

    # --- Commands
    def run(self, *command: str, check: bool = True) -> str:
        """What one of Slurm's commands prints; RuntimeError with it where it fails."""
        done = subprocess.run(
            [found(command[0]), *command[1:]], env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout.strip()}")
        return done.stdout

    def wait(self, *command: str) -> None:
        """Until a command succeeds."""

        def succeeds():
            try:
                return self.run(*command) is not None
            except (RuntimeError, subprocess.TimeoutExpired):
                return False

        self._until(succeeds, f"{' '.join(command)} does not succeed")

    def wait_for_nodes(self) -> None:
        """Until all nodes take jobs."""
        self._until(
            lambda: self.run("sinfo", "-h", "-N", "-o", "%T", check=False).split() in (["idle"] * len(NODES),),
            "the nodes do not become idle",
        )

    def _until(self, true, otherwise: str, limit: float = 60.0) -> None:
        end = time.monotonic() + limit
        while not true():
            if time.monotonic() > end:
                raise RuntimeError(f"{otherwise}; see the logs in {self.folder}")
            time.sleep(0.1)

    # --- The end
    def end(self, name: str) -> None:
        """Stop a daemon as its service would be stopped."""
        self.daemons[name].terminate()
        self.daemons.pop(name).wait(30)

    def crash(self, node: str) -> None:
        """End a node at once, as when its power fails: its slurmd, the steps of its jobs and all that these started."""
        jobs = self.run("squeue", "-h", "-w", node, "-o", "%A").split()
        daemon = self.daemons.pop(f"slurmd-{node}")
        doomed = [pid for pid, words in commands().items() if step_of(words) in jobs and self._ours(pid)]
        for pid in [daemon.pid, *doomed, *descendants(doomed)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        daemon.wait()

    def _ours(self, pid: int) -> bool:
        """Whether a process belongs to this Slurm."""
        try:
            return f"SLURM_CONF={self.folder}/slurm.conf".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False

    def stop(self) -> None:
        """End all, the youngest first."""
        if "slurmctld" in self.daemons:
            with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
                self.run("scancel", "--user", self.user, check=False)
        for name in reversed(list(self.daemons)):
            one = self.daemons.pop(name)
            one.terminate()
            try:
                one.wait(20)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()


def end_in_order() -> None:
    """Have what was begun ended also when this process is stopped, and let Ctrl-C reach those that it starts."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)


def found(program: str) -> str | None:
    """Where a program is."""
    return shutil.which(program) or shutil.which(program, path=os.pathsep.join(ELSEWHERE))


def commands() -> dict[int, str]:
    """The command line of each process."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return found


def step_of(words: str) -> str:
    """The job of a slurmstepd, which calls itself `slurmstepd: [33.0]`; "" of other processes."""
    return words.partition("slurmstepd: [")[2].partition(".")[0]


def descendants(pids: list[int]) -> list[int]:
    """All processes that these, and those in turn, began."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = list(pids)
    for pid in found:  # which grows
        found += [child for child, parent in parents.items() if parent == pid]
    return found[len(pids) :]


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens at."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    end_in_order()
    parser.add_argument("folder", type=Path)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    try:
        with Slurm(given.folder) as slurm:
            return subprocess.run(given.command, env=slurm.environment).returncode
    except Missing as error:
        print(error, file=sys.stderr)
        return 77


if __name__ == "__main__":
    sys.exit(main())
