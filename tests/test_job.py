"""What the log of a job says of it."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "scripts"
JOB = f"""
import sys
from types import SimpleNamespace
sys.path.insert(0, {str(SCRIPTS)!r})
from firstlight import job
snakemake = SimpleNamespace(log=["job.log"], rule="rule", wildcards=[], config={{}}, threads=1)
with job.logged(snakemake):
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


def most_memory(folder, megabytes, *parent):
    subprocess.run([sys.executable, *parent, "-c", JOB, str(megabytes)], cwd=folder, check=True)
    return int(re.search(r"(\d+) MB at most", (folder / "job.log").read_text())[1])


def test_the_largest_memory_is_told_also_when_it_was_given_back(tmp_path):
    assert 300 < most_memory(tmp_path, 300) < 450


def test_the_memory_of_the_process_that_started_the_job_is_not_told(tmp_path):
    assert most_memory(tmp_path, 10, "-c", PARENT) < 200
