"""What a person sees of a run: progress, words at its end, errors."""

import io as streams
import logging
import os
import pty
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from conftest import PROJECT, snakemake
from firstlight import words
from firstlight.progress import Progress, spoken
from firstlight.terminal import Terminal, in_words

JOBS = {"master_bias": 1, "light": 4, "align": 4, "combine": 1, "all": 1, "total": 11}
TRACES = (
    "Traceback",
    'File "',
    "WorkflowError",
    "RuleException",
    "CalledProcessError",
    "Exiting because",
    "Error in rule",
)


def advanced(*, lights, seconds=10.0):
    """A run in which the bias and some lights are done, one after another."""
    progress, now = Progress(JOBS, 0.0), 0.0
    for job, rule in enumerate(["master_bias"] + ["light"] * lights):
        progress.start(job, rule, now)
        now += seconds
        progress.finish(job, now)
    return progress, now


def test_frames_are_counted_by_stage():
    progress, now = advanced(lights=3)
    assert progress.stages() == {"masters": (1, 1), "lights": (3, 4), "aligned": (0, 4), "stacks": (0, 1)}
    assert progress.line(now).startswith("masters 1/1, lights 3/4; about ")
    assert progress.total() == (4, 10)


def test_a_job_completes_its_stage():
    progress = Progress(JOBS, 0.0)
    progress.start(1, "light", 0.0)
    assert progress.finish(1, 1.0) is None
    assert progress.finish(2, 2.0, "master_bias") == "masters"


def test_a_line_that_is_rewritten_shows_what_is_at_work():
    progress, now = advanced(lights=2)
    progress.start(9, "align", now)
    assert re.fullmatch(r" 30%, about \d+ .* left: aligned 0/4", progress.short(now))


def test_the_time_left_is_that_of_the_jobs_that_are_left():
    progress = Progress({"light": 10}, 0.0)
    for job in range(6):
        progress.start(job, "light", job // 2 * 8.0)  # two at a time, 8 s each
        progress.finish(job, job // 2 * 8.0 + 8.0)
    assert progress.left(24.0) == pytest.approx(4 * 8.0 / 2)


def test_a_rule_that_has_not_run_is_taken_for_what_it_usually_is():
    slow, now = advanced(lights=4, seconds=20.0)
    fast, soon = advanced(lights=4, seconds=2.0)
    assert slow.left(now) == pytest.approx(10 * fast.left(soon))


def test_no_time_is_told_before_anything_is_known():
    assert Progress(JOBS, 0.0).left(60.0) is None


@pytest.mark.parametrize(
    "seconds, said", [(2, "5 s"), (43, "45 s"), (57, "1 min"), (600, "10 min"), (5520, "1 h 32 min")]
)
def test_times_as_people_say_them(seconds, said):
    assert spoken(seconds) == said


# The terminal, from records such as Snakemake's


class Teller:
    """A terminal into a text, with a clock that is set by hand, and a folder for logs."""

    def __init__(self, folder, **options):
        self.now, self.folder, self.stream = 0.0, folder, streams.StringIO()
        self.terminal = Terminal(self.stream, clock=lambda: self.now, **options)
        self.tell("workflow_started", "begun")

    def tell(self, event, message="", level=logging.INFO, **more):
        record = logging.makeLogRecord({"msg": message, "levelno": level, "event": event} | more)
        taken = self.terminal.takes(record)
        self.terminal.emit(record)
        return taken

    def job(self, number, rule, log="", ok=True, **wildcards):
        path = self.folder / f"{number}.log"
        about = {"jobid": number, "rule_name": rule, "log": [str(path)], "output": [], "wildcards": wildcards}
        self.tell("job_info", **about)
        path.write_text(log)
        self.now += 0.5
        if ok:
            self.tell("job_finished", f"Finished jobid: {number} (Rule: {rule})", job_id=number)
        else:
            self.tell("job_error", level=logging.ERROR, **about)

    @property
    def lines(self):
        return self.stream.getvalue().splitlines()


@pytest.fixture
def teller(tmp_path):
    return Teller(tmp_path, quiet={"progress"})


def test_what_is_true_of_many_frames_is_said_once(teller):
    for number in range(20):
        teller.job(number, "light", f"note: light L{number}: left out: overscan section does not fit\n")
    assert teller.lines == ["light L0: left out: overscan section does not fit"]


def test_many_different_notes_of_a_rule_end_with_where_to_look(teller):
    for number in range(20):
        teller.job(number, "light", f"note: light L{number}: left out: {number} stars\n")
    assert len(teller.lines) == 11 and teller.lines[-1] == "there is more to tell of light: see the logs"


def test_a_failed_job_is_one_paragraph_from_its_log(teller):
    teller.job(3, "light", "failed: no space left\nTraceback (most\n  File", ok=False, frame="L_3", target="M42")
    assert teller.lines == [f"Failed: light L_3: no space left (details: {teller.folder / '3.log'})"]


def test_jobs_that_fail_for_one_reason_are_counted_at_the_end(teller):
    teller.tell("run_info", stats={"light": 3, "total": 3})
    for number in range(3):
        teller.job(number, "light", "failed: no space left\n", ok=False, frame=f"L{number}")
    teller.terminal.failed_words()
    assert len(teller.lines) == 2 and teller.lines[-1].startswith("3 jobs failed")


def test_a_job_that_was_killed_for_its_memory_says_so(teller):
    teller.tell("error", "RuleException:\nCalledProcessError in file x:\n'...' died with <Signals.SIGKILL: 9>.")
    teller.job(1, "combine", "reads a.fits\n", ok=False, target="M42", filter="R")
    (line,) = teller.lines
    assert line.startswith("Failed: combine M42 R: killed by the system, most likely for want of memory")


def test_a_reason_of_an_earlier_run_is_not_taken_for_this_one(teller):
    path = teller.folder / "1.log"
    about = {"jobid": 1, "rule_name": "light", "log": [str(path)], "output": [], "wildcards": {}}
    path.write_text("failed: an old story\n")
    os.utime(path, (0, 0))
    teller.tell("job_info", **about)
    teller.tell("job_error", level=logging.ERROR, **about)
    assert "old story" not in teller.lines[0] and "ended without a word" in teller.lines[0]


def slurm_log(folder, text):
    path = folder / "12.log"
    path.write_text(f"Building DAG of jobs...\nslurmstepd-n2: error: {text}\nsrun: error: n2: task 0: Killed\n")
    return str(path)


def test_a_job_that_a_cluster_ended_says_why(teller):
    log = slurm_log(teller.folder, "StepId=12.0 exceeded memory limit (465 > 457), being killed")
    teller.job(1, "combine", "reads a.fits\n", target="M42")
    about = {"jobid": 1, "rule_name": "combine", "log": ["1.log", log], "output": [], "wildcards": {}}
    teller.tell("job_error", level=logging.ERROR, **about)
    assert "the cluster ended it: StepId=12.0 exceeded memory limit (465 > 457)" in teller.lines[0]


def test_a_job_that_a_cluster_did_not_take_says_why(teller):
    message = (
        "SLURM sbatch failed. The error message was 'sbatch: error: Invalid account'.\n    sbatch call: sbatch ..."
    )
    about = {"jobid": 1, "rule_name": "combine", "log": [], "output": [], "wildcards": {}, "rule_msg": message}
    teller.tell("job_error", level=logging.ERROR, **about)
    assert teller.lines == ["Failed: combine: the cluster did not take it: sbatch: error: Invalid account"]


def group(teller, *reasons):
    """Jobs that were submitted as one, and failed; the reasons stand in their logs."""
    jobs = []
    for number, reason in enumerate(reasons):
        log = teller.folder / f"{number}.log"
        jobs.append({"jobid": number, "rule_name": "light", "log": [str(log)], "output": []})
        teller.tell("job_info", wildcards={"frame": f"L{number}"}, **jobs[-1])
        log.write_text(reason)
    return jobs


def fail(teller, jobs, log):
    teller.tell("group_error", level=logging.ERROR, groupid="lights", aux_logs=[log], job_error_info=jobs)
    for job in jobs:
        teller.tell("job_error", level=logging.ERROR, indent=True, **job)


def test_a_group_that_a_cluster_ended_is_one_paragraph(teller):
    log = slurm_log(teller.folder, "*** JOB 12 ON n2 CANCELLED AT 2026-11-22T21:54:34 ***")
    fail(teller, group(teller, "", "", ""), log)
    (line,) = teller.lines
    assert line.startswith("Failed: light L0 and 2 more: the cluster ended it: JOB 12 ON n2 CANCELLED")


def test_of_a_group_those_are_named_that_failed(teller):
    fail(teller, group(teller, "done in 1 s\n", "failed: no space left\n"), str(teller.folder / "none"))
    (line,) = teller.lines
    assert line.startswith("Failed: light L1: no space left")


def test_jobs_that_succeed_when_tried_again_are_no_failures(teller):
    teller.tell("run_info", stats={"light": 2, "total": 2})
    jobs = group(teller, "", "")
    fail(
        teller,
        jobs,
        slurm_log(teller.folder, "*** JOB 12 ON n2 CANCELLED AT 2026-11-22T21:54:34 DUE TO TIME LIMIT ***"),
    )
    teller.tell(None, "Trying to restart job 0.")
    assert teller.lines[-1] == "It is tried again, with more memory and time."
    teller.tell("job_finished", "", job_id=0)
    teller.terminal.failed_words()
    assert teller.lines[-1].startswith("A job failed")


def test_what_slurm_says_without_an_account_is_not_shown(teller):
    assert teller.tell(None, "No SLURM account given, trying to guess.", level=logging.WARNING) and teller.lines == []


def test_jobs_that_end_on_request_are_no_failures(teller):
    teller.tell("run_info", stats={"light": 3, "total": 3})
    teller.tell("error", "CalledProcessError: Command 'x' died with <Signals.SIGINT: 2>.")
    teller.job(1, "light", "", ok=False)
    teller.tell(None, "Terminating processes on user request, this might take some time.")
    teller.terminal.failed_words()
    assert teller.lines == ["Stopped. What is done stays done (0 of 3 jobs): say the same again to go on."]


def test_a_file_gets_a_line_now_and_then(tmp_path):
    teller = Teller(tmp_path)
    teller.tell("run_info", stats={"light": 1000, "total": 1000})
    for number in range(300):
        teller.job(number, "light")
    teller.terminal.end()
    told = [line for line in teller.lines if "lights" in line]
    assert 10 < len(told) < 18 and re.match(r"  2:2\d  lights 2\d\d/1000; about 6 min left", told[-1])


def test_snakemake_says_nothing_of_its_own_while_it_runs(teller):
    assert teller.tell(None, "Select jobs to execute...") and teller.tell(
        "job_info", jobid=1, rule_name="x", log=[], output=[], wildcards={}
    )
    assert teller.lines == []


def test_warnings_that_nobody_foresaw_are_shown(teller):
    teller.tell(None, "the clock is wrong", level=logging.WARNING)
    assert teller.lines == ["the clock is wrong"]


def test_verbose_leaves_all_to_snakemake(tmp_path):
    teller = Teller(tmp_path, plain=True)
    assert not teller.tell(None, "Select jobs to execute...") and teller.lines == []


def test_a_dry_run_shows_the_table_of_jobs_once(tmp_path):
    teller = Teller(tmp_path, dry=True)
    table = {"light": 3, "total": 3}
    assert [teller.tell("run_info", "Job stats", stats=table) for _ in range(2)] == [False, True]


def test_records_of_another_make_do_not_end_a_run(teller):
    teller.tell("job_finished", "?")
    teller.tell("job_finished", "?")
    assert len(teller.lines) == 1 and "progress is not shown any more" in teller.lines[0]


@pytest.mark.parametrize(
    "text, exception, said",
    [
        (
            "LockException:\nError: Directory cannot be locked.",
            "LockException",
            "Another run is at work in .* --unlock",
        ),
        (
            "MissingRuleException:\nNo rule to produce a.fits (if you use input",
            "MissingRuleException",
            "Nothing makes a.fits",
        ),
        ('WorkflowError in file "/x/y.smk", line 12:\nraw: no\n  File "/x/y.smk", line 12, in <module>', "", "raw: no"),
        (
            "Traceback (most recent call last):\n  File x\nKeyError: 3\n",
            "KeyError",
            "Failed: KeyError: 3; this is a mistake",
        ),
    ],
)
def test_exceptions_in_words(text, exception, said):
    words = in_words(text, exception)
    assert re.match(said, words) and "\n" not in words


# The last words


def night(tmp_path, rows):
    head = "target,filter,frames,left_out,exposure_s,fwhm_pix,depth_mag,depth_band,note"
    (tmp_path / "stacks.csv").write_text("\n".join([head, *rows]) + "\n")
    planes = {plane: SimpleNamespace(name=f"x-{plane}", path="raw/x.fits") for plane in "RGB"}
    return SimpleNamespace(results=str(tmp_path), plan=SimpleNamespace(lights=planes))


def test_a_night_of_which_nothing_could_be_used_says_so(tmp_path):
    reason = words.useless(night(tmp_path, ["M 42,R,,,,,,,no usable light"]))
    assert reason.startswith("No light of this night could be used. M 42 in R: no usable light")
    assert words.useless(night(tmp_path, ["M 42,R,,,,,,,no", "M 42,V,3,0,180,2.5,,,"])) == ""


def test_stacks_are_told_with_what_they_are_worth(tmp_path):
    rows = ["M 42,R,8,1,480,2.512,18.24,V,", "M 42,V,1,0,60,2.5,-2,instrumental,", "M 42,B,2,0,0,2.5,,,"]
    one, other, unknown = words._stacks(night(tmp_path, rows))
    assert one == "  M 42 R  8 frames, 8 min, FWHM 2.51 pix, 5 sigma at 18.2 mag (V); 1 left out"
    assert other == "  M 42 V  1 frame, 60 s, FWHM 2.50 pix"
    assert unknown == "  M 42 B  2 frames, FWHM 2.50 pix"


def test_lights_without_a_place_on_the_sky_are_counted_by_target(tmp_path):
    here = night(tmp_path, ["M 42,R,8,1,480,2.512,18.24,V,"])
    assert words._unsolved(here) == []
    (tmp_path / "unsolved.csv").write_text("frame,target\na,M 42\nb,M 34\nc,M 42\nx-R,M 1\nx-G,M 1\n")
    (sentence,) = words._unsolved(here)
    assert sentence.startswith("Not solved: 2 lights of M 42, 1 light of M 1, 1 light of M 34; ")
    assert "unsolved.csv" in sentence


# Whole runs


@pytest.fixture
def folder(small_night, tmp_path):
    return small_night.copy(tmp_path)


def clean(text):
    assert not [trace for trace in TRACES if trace in text], text
    return text


def test_a_second_run_says_where_the_products_are(folder):
    run = snakemake(folder, code=folder / "code")
    assert (
        run.code == 0 and "Nothing to be done: everything is made" in clean(run.text) and "More: results/" in run.text
    )
    assert re.search(r"Picture: results/pictures/\w+\.png \(R: R, G: V\+R, B: V\)", run.text), run.text


def test_tidy_and_headers_say_their_own_only(folder):
    run = snakemake(folder, "tidy", code=folder / "code")
    assert run.text.splitlines()[1:] == ["nothing to remove"]
    assert "Picture" not in snakemake(folder, "headers", code=folder / "code").text


def test_a_damaged_product_fails_in_one_paragraph_and_the_rest_is_made(folder):
    """On a real terminal, whose last line is rewritten."""
    light = next((folder / "results" / "lights").rglob("Light_R_*.fits"))
    stamp = light.stat()
    light.write_bytes(light.read_bytes()[:300000])
    os.utime(light, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    for path in (folder / "results" / "aligned").rglob("Light_*.fits"):
        path.unlink()
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(folder / "code" / "Snakefile")]
    process = subprocess.Popen(command, cwd=folder, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"})
    os.close(theirs)
    text = "".join(iter(lambda: read(ours), ""))
    assert process.wait() == 1
    (failed,) = [line for line in clean(text).splitlines() if "Failed: " in line]
    assert f"align {light.stem}: " in failed and "is damaged" in failed and "remove it, and it is made again" in failed
    assert "A job failed, as said above." in text and re.search(r"\r\x1b\[K +\d+%", text)
    log = (folder / "results" / "logs" / "aligned").rglob(f"{light.stem}.log")
    assert re.search(r"failed: .*\nTraceback", next(log).read_text())


def read(terminal):
    try:
        return os.read(terminal, 10000).decode()
    except OSError:  # its other end is closed
        return ""


def test_ctrl_c_says_how_to_go_on(small_night, tmp_path):
    small_night.copy_inputs(tmp_path)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(tmp_path / "code" / "Snakefile")]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # what runs in the background may ignore it
    )  # fmt: skip
    logs = tmp_path / "results" / "logs"
    while process.poll() is None and not list(logs.rglob("*.log")):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    text = clean(process.communicate(timeout=60)[0])
    assert process.returncode == 1 and re.search(r"Stopped\. .* say the same again to go on\.\n$", text), text


def test_a_night_without_a_usable_light_fails_each_time(small_night, tmp_path):
    """A section that fits no frame is said once for all lights, not once for each."""
    small_night.copy_inputs(tmp_path)
    for path in (tmp_path / "raw").glob("[BDF]*.fits"):
        path.unlink()
    for _ in range(2):
        wrong = ("--config", "trim={region: '[1:9999,1:9]'}")
        run = snakemake(tmp_path, *wrong, code=tmp_path / "code")
        assert run.code == 1 and "No light of this night could be used" in clean(run.text), run.text
        assert run.text.count("trim section") <= 2  # when it happens, and in the balance at the end
    assert run.jobs == {}


@pytest.mark.parametrize(
    "config, said",
    [
        ("catalog=x", "unknown key 'catalog': did you mean 'catalogue'?"),
        ("raw=/nowhere", "raw folder /nowhere does not exist"),
    ],
)
def test_a_wrong_configuration_is_a_sentence(tmp_path, config, said):
    run = snakemake(tmp_path, "--config", config, code=PROJECT)
    assert run.code == 1 and said in clean(run.text) and len(run.text.splitlines()) == 2
