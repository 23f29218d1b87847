"""The key of the user's account is the server's alone, and nothing goes over the network unasked.

Truth: a key that stands nowhere else, looked for in all that a run leaves; a Python whose sockets reach no other machine.
"""

import base64
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import simulated_night
from astropy.io import fits
from conftest import reduced, snakemake
from firstlight import nova
from firstlight.config import ConfigError, complete, read_schema
from nova_server import NovaServer

SECRET = "Kq7ownKey4711zz"
SHAPE = (128, 160)


class Talkative(NovaServer):
    """A server that solves nothing, and repeats to every other client what it was told.

    told  the keys that it was given
    """

    def __init__(self, folder, **options):
        super().__init__(folder, keys={SECRET}, **options)
        self.told = []

    def _solve(self, number, words):
        self.go.wait()
        self.status[number] = "failure"

    def answer(self, path, words):
        if path.endswith("login"):
            self.told.append(words["apikey"])
            if len(self.told) % 2:
                said = f"no account has the key {words['apikey']}: {words}"
                return 200, {"status": "error", "errormessage": said, "apikey": words["apikey"]}
        return super().answer(path, words)


@pytest.fixture
def server(tmp_path):
    with Talkative(tmp_path / "server") as running:
        yield running


def disguises(secret):
    """Forms in which bytes of a text may stand in a file: as they are, in hex, in base64 at each of the three offsets."""
    plain = secret.encode()
    coded = [base64.b64encode(b"\0" * offset + plain)[4 if offset else 0 : -4] for offset in range(3)]
    return [plain, plain.hex().encode(), *coded]


def holding(folder, secret):
    """The files below a folder in which the secret stands."""
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    assert len(files) > 5
    return [path for path in files if any(form in path.read_bytes() for form in disguises(secret))]


class Commands:
    """The command lines of all processes of this machine, while it is entered."""

    def __enter__(self):
        self.seen, self.over = set(), threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def _watch(self):
        while not self.over.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(path.read_bytes())
                except OSError:  # it has ended
                    continue


def raw_lights(folder, number=2):
    folder.mkdir()
    rng = np.random.default_rng(6)
    x, y = rng.uniform(5, SHAPE[1] - 5, 30), rng.uniform(5, SHAPE[0] - 5, 30)
    for index in range(number):
        image = rng.normal(300, 5, SHAPE)
        simulated_night.paint(image, x, y, rng.uniform(2e3, 2e4, 30), simulated_night.Profile("gauss", 3.0))
        header = fits.Header(
            {"IMAGETYP": "Light", "OBJECT": "h Per", "FILTER": "V", "EXPTIME": 30.0, "RA": 34.7, "DEC": 57.1}
        )
        header["DATE-OBS"] = f"2024-01-01T22:0{index}:00"
        fits.writeto(folder / f"l{index}.fits", np.clip(image, 0, 65000).astype(np.uint16), header)


# --- The key --------------------------------------------------------------------------------------------------------
def test_the_key_is_found_where_it_stands(tmp_path):
    """The search itself: a key in a file of each form."""
    for number, form in enumerate(disguises(SECRET)):
        (tmp_path / f"{number}.bin").write_bytes(b"x" * number + form + b"y")
    (tmp_path / "none.txt").write_text("nothing here")
    (tmp_path / "code.txt").write_bytes(base64.b64encode(f"ab {SECRET} cd".encode()))
    assert {path.name for path in holding(tmp_path, SECRET)} == {
        "0.bin",
        "1.bin",
        "2.bin",
        "3.bin",
        "4.bin",
        "code.txt",
    }


@pytest.mark.skipif(
    not Path("/proc/self/cmdline").exists(), reason="this system does not show its command lines in /proc"
)
def test_a_run_that_asks_the_server_leaves_the_key_nowhere(server, tmp_path):
    """One light's question is refused with the key in the answer, the other's is answered with no solution."""
    folder = tmp_path / "night"
    folder.mkdir()
    raw_lights(folder / "raw")
    solve = f"{{order: [nova], nova_url: '{server.url}', nova_time_limit: 5.0}}"
    (folder / "config.yaml").write_text(f"catalogue: none\ncosmic_ray: {{method: none}}\nsolve: {solve}\n")
    with Commands() as commands:
        run = snakemake(folder, **{nova.KEY: SECRET})
    assert server.told == [SECRET, SECRET]
    said = (folder / "results" / "unsolved.csv").read_text()
    assert f"refused the key in {nova.KEY}" in said and "found no solution" in said
    assert run.code == 0 and any(b"snakemake" in line for line in commands.seen)
    assert SECRET not in run.text
    assert holding(folder, SECRET) == []
    assert [line for line in commands.seen if SECRET.encode() in line] == []


class Parrot(NovaServer):
    """Answers everything with one status and content, in which KEY stands for the key that it was told."""

    def __init__(self, folder, status, content):
        super().__init__(folder)
        self.status_code, self.content, self.key = status, content, ""

    def answer(self, path, words):
        self.key = words.get("apikey", self.key)
        if "login" in path and self.content != "login":
            return self.status_code, self.content.replace("KEY", self.key).encode()
        return (200, {"status": "success", "session": "s"}) if "login" in path else (500, self.key.encode())


ANSWERS = [
    (200, '{"status": "error", "errormessage": "bad apikey KEY"}'),
    (200, '{"status": "KEY"}'),
    (200, '{"KEY": 1}'),
    (200, '["KEY"]'),
    (200, '"KEY"'),
    (200, "<html>KEY</html>"),
    (200, "KEY"),
    (403, "KEY is forbidden"),
    (500, "KEY"),
    (200, "login"),
]


@pytest.mark.parametrize(("status", "content"), ANSWERS)
def test_no_answer_brings_the_key_into_a_message(status, content, tmp_path, capfd):
    with Parrot(tmp_path, status, content) as server:
        with pytest.raises(nova.Unanswered) as caught:
            nova.ask(nova.request([[1, 2], [3, 4]], SHAPE), SECRET, 3.0, server.url)
    assert server.key == SECRET
    assert SECRET not in str(caught.value) + "".join(capfd.readouterr())


def test_a_key_written_into_the_configuration_is_not_repeated_when_it_is_refused():
    schema = read_schema(Path(__file__).parents[1] / "config.schema.yaml")
    for config in ({"solve": {"nova_key": SECRET}}, {"api_key": SECRET}, {"solve": {"key": {"a": SECRET}}}):
        with pytest.raises(ConfigError) as caught:
            complete(config, schema)
        assert "unknown key" in str(caught.value) and SECRET not in str(caught.value)


# --- The network ----------------------------------------------------------------------------------------------------
# Python reads a module of this name when it starts, that of each job too.
ALONE = """
import os, socket, sys

def watch(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        refuse(event, arguments)
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        if arguments[0].family != socket.AF_UNIX:
            refuse(event, arguments[1:])

def refuse(event, arguments):
    with open(os.path.join(os.environ["ALONE"], "asked"), "a") as file:
        file.write(f"{event} {arguments} {sys.argv}\\n")
    raise OSError("there is no network here")

sys.addaudithook(watch)
with open(os.path.join(os.environ["ALONE"], "started"), "a") as file:
    file.write(f"{os.getpid()}\\n")
"""


@pytest.fixture
def alone(tmp_path):
    """Variables of an environment in which no process of Python reaches another machine; `ALONE` is the folder of its records."""
    place = tmp_path / "alone"
    place.mkdir()
    (place / "sitecustomize.py").write_text(ALONE)
    return {"ALONE": str(place), "PYTHONPATH": str(place)}


def asked(alone):
    path = Path(alone["ALONE"]) / "asked"
    return path.read_text() if path.exists() else ""


def test_without_a_network_a_night_is_reduced_and_nothing_was_tried(small_night, alone, tmp_path):
    folder = small_night.copy_inputs(tmp_path / "night")
    run = reduced(folder, code=folder / "code", **alone)
    assert asked(alone) == ""
    assert len((Path(alone["ALONE"]) / "started").read_text().split()) > sum(run.jobs.values()) > 10
    for path in sorted((small_night.folder / "results" / "stacks").rglob("*.fits")):
        other = folder / "results" / path.relative_to(small_night.folder / "results")
        assert np.array_equal(fits.getdata(path), fits.getdata(other), equal_nan=True)


def test_the_network_is_tried_only_where_that_was_asked_for(alone, tmp_path):
    """And the run goes on without. It also shows that a try would have been seen."""
    raw_lights(tmp_path / "raw", 1)
    archive = "{source: gaia, server: 'http://catalogue.invalid/tap', time_limit: 2}"
    (tmp_path / "config.yaml").write_text(
        f"catalogue: {archive}\ncosmic_ray: {{method: none}}\nsolve: {{method: none}}\n"
    )
    run = reduced(tmp_path, **alone)
    assert "Traceback" not in run.text
    assert set(re.findall(r"[a-z]+\.invalid|\d+\.\d+\.\d+\.\d+", asked(alone))) == {"catalogue.invalid"}
    assert list((tmp_path / "results" / "stacks").rglob("*.fits"))
