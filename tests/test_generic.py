"""profiles/generic: what its status script makes of a queue's answers, and on a real Grid Engine the products that a local
run makes, also when a job is lost."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import PROJECT, SmallNight
from gridengine import GridEngine
from slurm import Missing

STATUS = PROJECT / "profiles" / "generic" / "status"
LISTED = "job-ID  prior   name  user  state\n-----\n     42 0.5 light root r 11/22/2026 all.q@n1 1\n"


# ---- The status script, with a queue that says what it is told -------------------------------------------------------


class Queue:
    """A folder in which Snakemake would run, and a qstat that prints `text`, or fails."""

    def __init__(self, folder):
        self.folder, self.notes = folder, folder / ".snakemake" / "queue"
        self.notes.mkdir(parents=True)
        self.says(LISTED)

    def says(self, text, code=0):
        """What qstat prints from now on; the list that was asked for before is forgotten."""
        program = self.folder / "qstat"
        program.write_text(f"#!/bin/sh\necho asked >>{self.folder}/calls\ncat <<'END'\n{text}END\nexit {code}\n")
        program.chmod(0o755)
        for name in ("asked", "list"):
            (self.notes / name).unlink(missing_ok=True)

    def status(self, job="42"):
        path = f"{self.folder}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            [STATUS, job], cwd=self.folder, env=os.environ | {"PATH": path}, text=True, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def later(self, seconds):
        """As if so much time had passed since all that was noted."""
        for path in self.notes.iterdir():
            moment = path.stat().st_mtime - seconds
            os.utime(path, (moment, moment))


@pytest.fixture
def queue(tmp_path):
    return Queue(tmp_path)


@pytest.mark.parametrize(("code", "word"), [("0", "success"), ("1", "failed"), ("137", "failed")])
def test_a_note_tells_how_a_job_ended(queue, code, word):
    (queue.notes / "42").write_text(f"{code}\n")
    assert queue.status() == word


def test_a_listed_job_is_running_however_long(queue):
    for _ in range(3):
        assert queue.status() == "running"
        queue.later(100)


def test_a_job_of_pbs_is_found_by_its_number(queue):
    queue.says("Job id  Name  User  Time Use S Queue\n-----\n7.head  light  root  0 R workq\n")
    queue.later(0)
    assert queue.status("7.head.example.org") == "running"
    queue.later(100)
    assert queue.status("7.head.example.org") == "running"


def test_a_job_that_the_queue_forgot_has_failed_after_a_minute_and_not_before(queue):
    assert queue.status("43") == "running"
    queue.later(45)
    assert queue.status("43") == "running"
    queue.later(45)
    assert queue.status("43") == "failed"


def test_a_number_within_another_is_another_job(queue):
    assert queue.status("4") == "running"
    queue.later(90)
    assert queue.status("4") == "failed"


def test_a_note_that_comes_late_counts(queue):
    assert queue.status("43") == "running"
    queue.later(45)
    (queue.notes / "43").write_text("0\n")
    assert queue.status("43") == "success"


def test_while_the_queue_does_not_answer_nothing_has_failed(queue):
    queue.says("", code=1)
    for _ in range(3):
        assert queue.status("43") == "running"
        queue.later(100)


def test_the_queue_is_asked_once_for_all_jobs(queue):
    for job in range(20):
        queue.status(str(job))
    assert (queue.folder / "calls").read_text().count("asked") == 1


@pytest.mark.parametrize(("command", "code"), [("true", 0), ("false", 1), ("exit 3", 3)])
@pytest.mark.parametrize("variable", ["JOB_ID", "PBS_JOBID"])
def test_a_job_notes_its_exit_code(queue, command, code, variable):
    script = queue.folder / "job.sh"
    template = (PROJECT / "profiles" / "generic" / "jobscript.sh").read_text()
    script.write_text(template.format(properties="{}", exec_job=f"cd {queue.folder} && {command}"))
    environment = {key: value for key, value in os.environ.items() if key not in ("JOB_ID", "PBS_JOBID")}
    number = "42.head" if variable == "PBS_JOBID" else "42"
    done = subprocess.run(["/bin/sh", script], cwd="/", env=environment | {variable: number})
    assert done.returncode == code
    assert (queue.notes / "42").read_text() == f"{code}\n"


# ---- A real Grid Engine ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    if importlib.util.find_spec("snakemake_executor_plugin_cluster_generic") is None:
        pytest.skip("snakemake-executor-plugin-cluster-generic is not installed (envs/slurm.txt has it)")
    try:
        with GridEngine(tmp_path_factory.mktemp("engine") / "cell") as running:
            yield running
    except Missing as missing:
        pytest.skip(str(missing))


def started(folder, engine, *arguments):
    """A run by way of the profile; what it shows goes to the file `shown`."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", folder / "code" / "Snakefile"]
    command += ["--workflow-profile", PROJECT / "profiles" / "generic", "--latency-wait", 5]
    command += ["--seconds-between-status-checks", 1, *arguments]
    with open(folder / "shown", "ab") as shown:
        return subprocess.Popen(
            ["timeout", "-s", "KILL", "250", *map(str, command)],
            cwd=folder, env=engine.environment, stdin=subprocess.DEVNULL, stdout=shown, stderr=shown, start_new_session=True,
        )  # fmt: skip


def at_work(run, engine):
    """Wait until a job runs."""
    while "r" not in engine.jobs().values():
        assert run.poll() is None, "the run ended before a job was at work"
        time.sleep(0.2)


def unlike(one, other):
    """Products that are not the same to the byte; the report says how long jobs took."""
    from cluster import differences

    return [name for name in differences(one / "results", other / "results") if name != "report.html"]


def test_products_are_those_of_a_local_run_though_a_job_is_lost(engine, small_night: SmallNight, tmp_path):
    folder = small_night.copy(tmp_path)
    for part in ("aligned/NGC869/R", "stacks"):
        shutil.rmtree(folder / "results" / part)
    run = started(folder, engine)
    at_work(run, engine)
    time.sleep(1)
    engine.lose()
    assert run.wait() == 0, (folder / "shown").read_text()
    assert "tried again" in (folder / "shown").read_text()
    assert unlike(small_night.folder, folder) == []


def test_ctrl_c_takes_the_jobs_from_the_queue(engine, small_night: SmallNight, tmp_path):
    folder = small_night.copy(tmp_path)
    shutil.rmtree(folder / "results" / "stacks")
    run = started(folder, engine)
    at_work(run, engine)
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait() != 0
    end = time.monotonic() + 20
    while engine.jobs():
        assert time.monotonic() < end, engine.jobs()
        time.sleep(0.3)


def test_a_queue_that_is_away_is_waited_for(engine, small_night: SmallNight, tmp_path):
    folder = small_night.copy(tmp_path)
    shutil.rmtree(folder / "results" / "stacks")
    run = started(folder, engine)
    at_work(run, engine)
    engine.end("sge_qmaster")
    time.sleep(30)
    engine.start("sge_qmaster")
    assert run.wait() == 0, (folder / "shown").read_text()
    assert unlike(small_night.folder, folder) == []
