"""What the log of a job says of it."""

import errno
import re
import subprocess
import sys
from pathlib import Path

import pytest
from firstlight import job

SCRIPTS = Path(__file__).parents[1] / "scripts"
HEAD = f"""
import sys
from types import SimpleNamespace
sys.path.insert(0, {str(SCRIPTS)!r})
from firstlight import job
snakemake = SimpleNamespace(
    log=["job.log"], rule="rule", wildcards={{}}, config={{}}, threads=1, input=["a.fits"] * 9, output=["b.txt"]
)
with job.logged(snakemake):
"""
WRITING = "    print('decided'); __import__('pathlib').Path('b.txt').write_text('12345678' * 1000)\n"
MOST = """
    most = bytearray(int(sys.argv[1]) * 10**6)
    most[::4096] = bytes([1]) * len(most[::4096])
    del most
"""
PARENT = """
import subprocess, sys
own = bytearray(800 * 10**6)
own[::4096] = bytes([1]) * len(own[::4096])
subprocess.run([sys.executable, *sys.argv[1:]], check=True)
"""


def log_of(folder, body, *arguments, parent=()):
    subprocess.run([sys.executable, *parent, "-c", HEAD + body, *arguments], cwd=folder, check=True)
    return (folder / "job.log").read_text()


def most_memory(folder, megabytes, *parent):
    return int(re.search(r"(\d+) MB at most", log_of(folder, MOST + WRITING, str(megabytes), parent=parent))[1])


def test_the_largest_memory_is_told_also_when_it_was_given_back(tmp_path):
    assert 300 < most_memory(tmp_path, 300) < 450


def test_the_memory_of_the_process_that_started_the_job_is_not_told(tmp_path):
    assert most_memory(tmp_path, 10, "-c", PARENT) < 200


def test_a_log_says_what_was_read_decided_and_written_in_this_order(tmp_path):
    lines = log_of(tmp_path, WRITING).splitlines()
    assert lines[:-1] == ["reads a.fits"] * 8 + ["and 1 more", "decided", "wrote b.txt, 0.008 MB"]
    assert re.fullmatch(r"done in .* s, .* s of CPU with start-up, \d+ MB at most", lines[-1])


def test_a_job_is_named_by_its_frame():
    assert job.named("light", {"target": "M42", "night": "n", "frame": "Light_1_0a"}) == "light Light_1_0a"
    assert job.named("combine", {"target": "M42", "filter": "R"}) == "combine M42 R"


@pytest.mark.parametrize(
    "error, said",
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "results/a.fits"),
            "no space left on the disk of results/a.fits",
        ),
        (OSError("Not enough space on disk: requested 5, available 0"), "no space left on the disk of the results"),
        (
            OSError(errno.EROFS, "Read-only file system", "out/a"),
            "no permission to read or write out/a (read-only file",
        ),
        (OSError(errno.ENOENT, "No such file or directory", "/proc/x"), "no such file or folder: /proc/x (moved"),
        (MemoryError(), "not enough memory: fewer jobs at a time"),
        (ValueError("the flat is\n 3x4"), "the flat is 3x4"),
        (KeyError("x"), "KeyError: 'x'; this is a mistake in firstlight"),
    ],
)
def test_errors_are_said_in_plain_words(error, said):
    assert job.plain(error).startswith(said)


def test_a_fault_of_a_frame_names_the_frame_and_stands_above_its_traceback(capfd):
    with job.dropping(lambda reason: None, name="master_bias raw/a.fits"):
        raise ValueError("no data in it")
    out, err = capfd.readouterr()
    assert out == "note: master_bias raw/a.fits: left out: no data in it\n" and "Traceback" in err
