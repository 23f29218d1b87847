"""The reader of frames and the repair of headers against bytes that nobody would write: `make fuzz`.

    python tests/fuzz.py 300            300 s from the files of tests/data/fuzz on; a finding is left in fuzz/

Guided by coverage where atheris is installed (envs/fuzz.txt); else the same changes of the same files at random, which finds
less. What is found stays in tests/data/fuzz: test_properties.py reads all of it in each run.
"""

from __future__ import annotations

import argparse
import base64
import random
import sys
import tempfile
import time
import zlib
from pathlib import Path

SEEDS = Path(__file__).parent / "data" / "fuzz"
FOUND = Path("fuzz")
MEMORY = Path("/dev/shm")
REPAIRS = [
    {"rename": {"INSFILTE": "FILTER", "OBJECT": "OBJNAME"}},
    {"where": {"INSTRUME": "*a*"}, "append": {"GAIN": 1.5, "DATE-OBS": "2025-06-01T01:02:03"}},
    {"where": "*.fits", "update": {"EXPTIME": 3.0, "RA": None, "HISTORY": "repaired"}},
]
MOST = 30_000  # bytes of a file

try:
    import atheris
except ImportError:
    atheris = None

if atheris and __name__ == "__main__":
    with atheris.instrument_imports(include=["firstlight", "astropy.io.fits.card"]):
        from firstlight import cards, frames, header, raw
else:
    from firstlight import cards, frames, header, raw


def check(content: bytes, path: Path) -> bool:
    """Read a file with this content in every way; True where it holds a frame. AssertionError, or whatever is raised beside
    ValueError, is a finding."""
    path.write_bytes(content)
    with raw.quiet():
        _ready(path)
        try:
            scanned = raw.scan(str(path))
        except ValueError as error:
            reason = str(error)
            assert reason and "\n" not in reason and len(reason) < 500, reason
            return False
        pixels, found = raw.read(str(path))
        assert pixels.shape == (scanned.ny, scanned.nx), "another size"
        assert raw.pixel_hash(pixels) == scanned.pixel_hash, "other pixels"
        assert raw.read_header(str(path)).tostring() == found.tostring(), "another header"
        settings = header.Settings(header=REPAIRS, raw=(str(path.parent),))
        packed = base64.b64encode(zlib.compress(scanned.text.encode("ascii"), 1)).decode("ascii")
        said = frames._said(str(path), {"text": packed, "notes": scanned.notes, "constant": None}, settings)
        repaired = header.repair(found, str(path), REPAIRS)
        repaired.tostring()
        plain, _ = frames.described(str(path), {"text": packed, "notes": []}, settings)
        differ = [key for key in plain if key not in cards.REMARKS and _said(plain[key]) != _said(repaired.get(key))]
        assert not differ, f"a job reads {differ} otherwise than the table"
        assert said["description"]["kind"]
    return True


def _said(value) -> str:
    return repr(None if type(value).__name__ == "Undefined" else value)


def _ready(path: Path) -> None:
    """The same file as a ready master."""
    try:
        raw.scan_ready(str(path))
        raw.read_ready(str(path))
    except ValueError as error:
        assert str(error)


# --- Changes ---------------------------------------------------------------------------------------------------------
VALUES = (
    "0", "1", "-1", "2", "3", "8", "16", "-32", "-64", "999", "1000", "32768", "2147483648", "9223372036854775808",
    "1E999", "-1.5D300", "NaN", "T", "F", "''", "'RICE_1  '", "'GZIP_1  '", "'HCOMPRESS_1'", "'PLIO_1  '", "'IMAGE   '",
    "'BINTABLE'", "'1PB(5)  '", "'x&'", "'2025-06-01T24:00:60'", "'12:34:56'", "'RGGB'", "(1, 2)", "",
)  # fmt: skip


def changed(content: bytes, rng: random.Random) -> bytes:
    """A file with a change that knows of cards and blocks."""
    data, what = bytearray(content), rng.randrange(8)
    cards = max(min(len(data), 8640) // 80, 1)
    at = 80 * rng.randrange(cards)
    if what == 0:  # another value
        data[at + 10 : at + 80] = rng.choice(VALUES).rjust(20).ljust(70).encode()
    elif what == 1:  # two cards change places
        other = 80 * rng.randrange(cards)
        data[at : at + 80], data[other : other + 80] = data[other : other + 80], data[at : at + 80]
    elif what == 2:  # one stands twice
        other = 80 * rng.randrange(cards)
        data[at : at + 80] = data[other : other + 80]
    elif what == 3:  # cut
        del data[rng.choice([rng.randrange(len(data) + 1), 2880 * rng.randrange(1, 5)]) :]
    elif what == 4:  # a block less, or once more
        start = 2880 * rng.randrange(len(data) // 2880 + 1)
        data[start : start + rng.choice([0, 2880])] = data[start : start + 2880]
    elif what == 5:  # another keyword's value
        other = 80 * rng.randrange(cards)
        data[at + 10 : at + 80] = data[other + 10 : other + 80]
    else:
        for _ in range(rng.choice([1, 1, 2, 8])):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data[:MOST])


def guided(seconds: int, path: Path) -> None:
    """Until the time is over or something is found; leaves the process."""

    def mutate(data, size, seed):
        rng = random.Random(seed)
        return atheris.Mutate(data, size) if rng.random() < 0.3 else changed(bytes(data), rng)[:size]

    (FOUND / "corpus").mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", f"-max_len={MOST}", "-rss_limit_mb=2000", "-timeout=20", "-len_control=0"]
    options += [f"-artifact_prefix={FOUND}/", "-print_final_stats=1", str(FOUND / "corpus"), str(SEEDS)]
    atheris.Setup([sys.argv[0], *options], lambda data: check(data, path) and None, custom_mutator=mutate)
    atheris.Fuzz()


def at_random(seconds: int, path: Path) -> int:
    """The same without coverage to guide it; how many findings."""
    print("atheris is not installed: changes are made at random, not guided by coverage")
    rng, seeds, tried, read = random.Random(1), [one.read_bytes() for one in sorted(SEEDS.iterdir())], 0, 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        content = rng.choice(seeds)
        for _ in range(rng.randrange(1, 5)):
            content = changed(content, rng)
        tried += 1
        try:
            read += check(content, path)
        except Exception:
            FOUND.mkdir(exist_ok=True)
            (FOUND / "crash").write_bytes(content)
            print(f"found after {tried} files: {FOUND / 'crash'}")
            raise
    print(f"{tried} files, {read} of them held a frame: nothing found")
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=int, nargs="?", default=60)
    parser.add_argument("--file", help="look at this one file and say where it breaks")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        path = Path(folder) / "x.fits"
        if given.file:
            print("a frame" if check(Path(given.file).read_bytes(), path) else "no frame, and said so")
        elif atheris:
            guided(given.seconds, path)
        else:
            at_random(given.seconds, path)


if __name__ == "__main__":
    main()
