"""What `snakemake plan` says. Truth: nights made by hand, of which an observer would say what is ahead; Snakemake's own
announcement of the jobs; what a run leaves on disk and what its logs tell."""

import os
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml
from conftest import reduced, snakemake
from firstlight import forecast, match, mending
from firstlight.config import complete, read_schema
from firstlight.frames import Rejected, Row, Table
from firstlight.jobs import Job, jobs, log_of, to_do
from firstlight.night import Night
from firstlight.outlook import Outlook, Surroundings, frames, lights
from firstlight.phrases import size, span

SCHEMA = read_schema(Path(__file__).parents[1] / "config.schema.yaml")
TONIGHT, BEFORE = "2023-03-13", "2023-03-10"


def row(name, kind="light", night=TONIGHT, **facts):
    """A row of a plain camera; hashes follow the name."""
    light = kind == "light"
    plain = dict(
        path=f"raw/{name}.fits", name=f"{name}_00000000", kind=kind, night=night, target="M42" if light else "",
        filter="R" if light or kind == "flat" else "none", camera="cam", exposure=0.0 if kind == "bias" else 60.0,
        binning="1x1", gain_setting="", temperature=-10.0, nx=100, ny=200, time=f"{night}T22:00:00", instrument="cam",
        readout="", offset="", telescope="", focal_length=None, rotator=None, object="M 42", band="R", ra=None, dec=None,
        scale=None, header_hash=f"h{name}", pixel_hash=f"p{name}", notes="",
    )  # fmt: skip
    return Row(**plain | facts)


def several(number, name, kind="light", **facts):
    return [row(f"{name}{n}", kind, **facts) for n in range(number)]


CALIBRATION = several(4, "bias", "bias") + several(3, "dark", "dark") + several(2, "flat", "flat")
WHOLE = [*CALIBRATION, *several(3, "R"), *several(2, "V", filter="V", band="V", exposure=90.0)]


def a_night(rows=WHOLE, **config):
    return Night(rows, complete({"catalogue": "none", "results": "out"} | config, SCHEMA))


def outlook(rows=WHOLE, rejected=(), read=lambda path: None, exists=lambda path: False, cores=2, **config):
    table = Table(list(rows), [Rejected(*one) for one in rejected])
    return Outlook(a_night(rows, **config), table, Surroundings(cores=cores), read, exists)


def by_rule(some):
    """Jobs by rule, without tables and pages of the whole night."""
    return Counter(job.rule for job in some if not re.fullmatch(r"out/\w+\.\w+", job.outputs[0]))


# --- What is there --------------------------------------------------------------------------------------------------
def test_frames_are_counted_by_kind_and_lights_by_hours():
    told = frames(Table([*WHOLE, *several(61, "more", night=BEFORE, object="M 1", target="M1")]))
    lines = [" ".join(line.split()) for line in told]
    assert "all light 66 1 h 07 min" in lines  # 64 of 60 s, 2 of 90 s
    assert "all bias 4" in lines
    assert f"light {BEFORE} M 1 R 60 s cam 61 1 h 01 min" in lines
    assert f"light {TONIGHT} M 42 V 90 s cam 2 3 min" in lines


def test_flats_of_many_exposures_are_one_line():
    flats = [row(f"f{seconds}", "flat", exposure=float(seconds)) for seconds in (2, 3, 5)]
    assert [line.split() for line in frames(Table(flats))][1] == ["flat", TONIGHT, "R", "2-5", "s", "cam", "3"]


def test_lights_that_are_not_selected_are_counted():
    assert outlook(select={"filters": ["V"]}).not_selected() == ["  3 lights are not selected (select:)"]
    assert outlook().not_selected() == []


def test_rejected_files_are_grouped_by_their_reason():
    reasons = [(f"raw/{n}.fits", f"every pixel has the same value ({n})") for n in range(3)]
    first, second = mending.complaints([*reasons, ("raw/x.fits", "no image in this file")])
    assert first.sentence == "3 files: every pixel has the same value (0); e.g. raw/0.fits"
    assert second.sentence.startswith("1 file: no image")


# --- Masters of lights ----------------------------------------------------------------------------------------------
def test_lights_that_get_the_same_masters_are_one_line_and_odd_ones_stand_first():
    calibration = [*CALIBRATION, *several(5, "fv", "flat", filter="V", band="V", night=BEFORE)]
    told = lights(a_night([*calibration, *several(3, "R"), *several(2, "V", filter="V", band="V")]))
    assert [line.split()[:3] for line in told[1:]] == [["!", "2", "V"], ["3", "R", "60"]]
    assert told[1].endswith("5, from 3 nights away") and "3 x 60 s -10 C" in told[2]


@pytest.mark.parametrize(
    "dark, odd",
    [
        (dict(exposure=30.0), "scaled 2"),
        (dict(temperature=-8.5), "1.5 C too warm"),
        (dict(temperature=-11.5), "1.5 C too cold"),
    ],
)
def test_what_is_odd_about_a_dark_is_told(dark, odd):
    told = lights(a_night([*CALIBRATION[:4], *CALIBRATION[-2:], *several(3, "dark", "dark", **dark), row("light")]))
    assert told[1].split()[0] == "!" and odd in told[1]


def test_a_master_of_one_frame_is_odd():
    assert "one frame only" in lights(a_night([row("bias", "bias"), row("light")]))[1]


# --- What mends it --------------------------------------------------------------------------------------------------
LIGHT = row("light", telescope="A", focal_length=1000.0, rotator=10.0)


@pytest.mark.parametrize(
    "kind, facts, config, mend",
    [
        ("dark", dict(temperature=-15.04), {}, {"temperature": 5.1}),
        ("dark", dict(exposure=15.0), {}, {"scale_limit": 4.0}),
        ("dark", dict(exposure=30.0), {"scale_dark": False}, {"scale_dark": True}),
        ("dark", dict(exposure=15.0, temperature=-15.0), {}, {"temperature": 5.0, "scale_limit": 4.0}),
        ("bias", dict(night=BEFORE), {"nights": 1}, {"nights": 3}),
        ("flat", dict(telescope="B"), {}, {"telescope": False}),
        ("flat", dict(telescope="A", focal_length=1061.0), {}, {"focal_length": 0.07}),
        ("flat", dict(telescope="A", rotator=14.25), {}, {"rotator": 4.3}),
    ],
)
def test_the_least_tolerance_that_gives_a_master_is_named(kind, facts, config, mend):
    rows = [LIGHT, *several(3, "m", kind, **facts)] + (several(3, "bias", "bias") if kind != "bias" else [])
    before = complete({"match": config}, SCHEMA)["match"]
    assert mending.relaxing(match.plan(rows, before), LIGHT, kind) == mend
    assert getattr(match.plan(rows, before).chosen(LIGHT), kind) is None
    assert getattr(match.plan(rows, before | mend).chosen(LIGHT), kind) is not None


def remarks(rows, **config):
    return mending.remarks(a_night(rows, **config), {"cam": 1.5})


def test_what_is_missing_comes_with_lines_to_paste():
    darks = several(3, "d", "dark", temperature=-20.0)
    one, of_flats = remarks([*CALIBRATION[:4], *CALIBRATION[-2:], *darks, *several(2, "R")])
    assert one.sentence.startswith("no dark for 2 lights of M 42 in R")
    assert yaml.safe_load("\n".join(one.lines)) == {"match": {"temperature": 10.0}}
    assert one.lines[0] == f"# takes {TONIGHT}/cam/dark_60s_-20C.fits"
    assert of_flats.sentence.startswith("no dark for flat_R.fits") and of_flats.mend == one.mend


def test_flats_of_a_filter_without_lights_may_be_those_that_are_missing():
    rows = [*CALIBRATION[:7], *several(3, "f", "flat", filter="r'", band="r'"), *several(2, "R")]
    (one,) = remarks(rows)
    assert one.mend == {"filters": {"R": ["r'"]}}


def test_nothing_that_could_serve_asks_for_ready_masters():
    assert {str(one.mend) for one in remarks(several(2, "R"))} == {"{'masters': ['FOLDER']}"}


def test_a_night_that_has_everything_needs_nothing():
    assert remarks([*CALIBRATION, *several(3, "R")]) == []


def test_a_target_of_one_light_is_named():
    (one,) = remarks([*CALIBRATION, *several(3, "R"), row("p", target="Vega", object="Vega")])
    assert one.sentence.startswith("Vega has one light only, raw/p.fits") and one.mend == {
        "select": {"targets": ["M 42"]}
    }


def test_a_gain_that_nothing_tells_is_asked_for():
    without = [one for one in mending.remarks(a_night(several(2, "R")), {"cam": None}) if "gain" in one.sentence]
    assert len(without) == 1 and without[0].mend["cameras"][0]["where"] == "cam"
    measured = mending.remarks(a_night([*CALIBRATION, *several(2, "R")]), {"cam": None})
    assert not any("gain" in one.sentence for one in measured)


def test_a_field_too_small_for_bright_stars_is_named_unless_there_is_a_catalogue():
    rows = [*CALIBRATION, *several(3, "R", scale=1.0, ra=10.0, dec=41.0)]
    (one,) = remarks(rows, catalogue={})
    assert one.lines[1:] == ["catalogue: gaia"]
    assert remarks(rows) == []


@pytest.mark.parametrize(
    "facts, key",
    [(dict(ra=10.0, dec=41.0), "solve"), (dict(scale=9.0), "header"), (dict(ra=10.0, dec=41.0, scale=9.0), None)],
)
def test_lights_that_do_not_say_where_they_point_or_at_what_scale_are_named(facts, key):
    rows = [*CALIBRATION, *several(3, "R", nx=1000, ny=1000, **facts)]
    assert [list(one.mend) for one in remarks(rows, catalogue={})] == ([[key]] if key else [])
    assert remarks(rows) == []  # without a catalogue nothing is solved


# --- Jobs -----------------------------------------------------------------------------------------------------------
def test_jobs_of_a_known_night():
    assert by_rule(jobs(a_night())) == {
        "detector": 1, "master_bias": 1, "master_dark": 1, "master_flat": 1, "light": 5, "grid": 1, "align": 5,
        "combine": 2, "preview": 2, "picture": 1,
    }  # fmt: skip


def test_every_product_is_of_one_job_and_each_job_follows_those_it_needs():
    night = a_night()
    made = [path for job in jobs(night) for path in job.outputs]
    assert sorted(made) == sorted(night.products())
    before = set()
    for job in jobs(night):
        assert before.issuperset(job.needs)
        before |= {*job.outputs, *job.temporary}


def test_a_product_that_is_gone_is_made_with_all_that_follows():
    night = a_night()
    gone = night.light(night.rows("M42", "V")[0])
    left = by_rule(to_do(jobs(night), lambda path: path != gone))
    assert left == {"light": 1, "grid": 1, "align": 5, "combine": 2, "preview": 2, "picture": 1}
    assert to_do(jobs(night), lambda path: True) == []


def test_what_was_not_kept_is_made_again_where_it_is_needed():
    """All lights of the target: the grid is chosen among them, and follows when they are made again."""
    night = a_night([*WHOLE, *several(2, "other", target="M31", object="M 31")], keep=[])
    gone = {path for job in jobs(night) for path in job.temporary}
    assert to_do(jobs(night), lambda path: path not in gone) == []
    gone.add(night.stack("M42", "V"))
    assert by_rule(to_do(jobs(night), lambda path: path not in gone))["light"] == 5


# --- What it takes --------------------------------------------------------------------------------------------------
LAST = "done in {} s, {} s of CPU with start-up, {} MB at most\n"


def test_the_last_line_of_a_log_is_read():
    assert forecast.told("gain 1.5\n" + LAST.format(1.25, 0.9, 157)) == forecast.Told(1.25, 0.9, 157)
    assert forecast.told("Traceback\n") is None and forecast.told(None) is None


def made(rule, number, needs=()):
    return [Job(rule, (f"out/{rule}{n}.fits",), tuple(needs)) for n in range(number)]


def cost(mean, work=1e6):
    return forecast.Cost(4, work, mean, mean / 2, mean * 2, 100.0)


def test_time_is_the_sum_over_the_cores():
    got = forecast.duration(made("light", 8), {"light": cost(3.0)}, lambda job: 1e6, 2)
    assert (got.mean, got.low, got.high, got.logs, got.unknown) == (12.0, 6.0, 24.0, 4, ())


def test_jobs_that_wait_for_one_another_do_not_share_the_cores():
    chain = [*made("light", 1), *made("combine", 1, ["out/light0.fits"])]
    assert forecast.duration(chain, {"light": cost(3.0), "combine": cost(5.0)}, lambda job: 1e6, 8).mean == 8.0


def test_rules_of_which_no_log_tells_are_named():
    got = forecast.duration([*made("light", 1), *made("combine", 1)], {"light": cost(3.0)}, lambda job: 1e6, 1)
    assert got.unknown == ("combine",) and got.mean == 3.0


def test_time_grows_with_pixels_but_for_the_start():
    assert cost(3.4).seconds(2e6, 3.4) == pytest.approx(forecast.START + 2 * 3.0)


def test_costs_are_read_from_logs():
    logs = dict(zip((job.outputs for job in made("light", 4)), (1.0, 2.0, 3.0, 6.0), strict=True))
    found = forecast.costs(made("light", 4), lambda job: LAST.format(logs[job.outputs], 0.5, 200), lambda job: 5.0)
    assert found["light"] == forecast.Cost(4, 5.0, 3.2, 1.2, 6.2, 200.0)


def test_jobs_side_by_side_share_the_memory():
    some = [*made("light", 5), *made("combine", 1)]
    assert forecast.memory(some, {"light": 400.0, "combine": 1000.0}, {}, 4) == (1600.0, "light", 4)
    assert forecast.memory(some, {"light": 400.0, "combine": 1000.0}, {}, 2) == (1000.0, "combine", 1)
    assert forecast.memory(some, {"light": 400.0}, {"light": 2}, 4) == (800.0, "light", 2)


def test_what_is_not_kept_takes_disk_for_a_while_only():
    whole, bare = outlook(), outlook(keep=[])
    assert whole.disk(whole.jobs) - bare.disk(bare.jobs) > 2 * 5 * 10 * 20000  # lights and aligned, 10 bytes a pixel
    assert "MB more while it runs" in bare.text() and "while it runs" not in whole.text()


def test_too_little_disk_is_said():
    one = outlook()
    one.around.free = one.disk(one.jobs) - 1
    assert "TOO LITTLE" in one.text()
    one.around.free += 2
    assert "TOO LITTLE" not in one.text()


def test_too_little_memory_is_said():
    one = outlook(exists=lambda path: False)
    one.around.asked, one.around.installed = {"light": (500.0, 1)}, 0.9e9
    assert "1 GB at most, by 2 jobs of light side by side" in one.text() and "--resources mem_mb=720" in one.text()
    one.around.installed = 8e9
    assert "--resources" not in one.text()


def test_lengths_and_sizes_as_people_say_them():
    assert [span(value) for value in (1.234, 45, 720, 11100)] == ["1.2 s", "45 s", "12 min", "3 h 05 min"]
    assert [size(value) for value in (512e3, 43.1e6, 5.24e9)] == ["512 kB", "43.1 MB", "5.24 GB"]


# --- The whole text -------------------------------------------------------------------------------------------------
def test_without_logs_the_time_is_unknown():
    assert "time: unknown on 2 cores" in outlook().text()


def test_where_all_is_there_nothing_is_to_do():
    text = outlook(exists=lambda path: True).text()
    assert "disk: nothing to be written" in text and "time: nothing to do" in text


def test_colours_of_stacks_are_told():
    rows = [row(band, filter=band, band=band) for band in ("B", "V", "R", "Ha")]
    lines = outlook(rows).pictures()
    colours = {line.split()[2]: " ".join(line.split()[6:]) for line in lines[1:]}
    assert colours == {"B": "blue", "V": "green", "R": "red", "Ha": "not in the picture"}


@pytest.mark.parametrize(
    "rows, rejected, why",
    [
        ([], [], "no FITS file there"),
        ([], [("raw/a.fits", "no image in this file")], "the one file there is rejected"),
        (several(3, "bias", "bias"), [], "no light among 3 frames"),
    ],
)
def test_a_folder_of_nothing_usable_says_why(rows, rejected, why):
    text = outlook(rows, rejected).text()
    assert why in " ".join(text.split()) and "Jobs" not in text


def test_missing_stop_is_told():
    assert "nothing will run until what is missing is mended" in outlook(missing="stop").text()


def test_a_terminal_gets_the_ends_of_long_tables():
    rows = [row(f"n{n}", target=f"T{n:03d}", object=f"T {n:03d}") for n in range(200)]
    one = outlook(rows)
    assert len(one.text(short=True).splitlines()) < 220 < 600 < len(one.text().splitlines())
    assert "more lines in plan.txt" in one.text(short=True)


# --- Beside Snakemake -----------------------------------------------------------------------------------------------
def planned(run, column):
    """Jobs by rule in the plan's table: column 0 all, 1 done, 2 to do."""
    table = run.text.split("\nJobs\n")[1].split("\n\n")[0].splitlines()[1:]
    counts = {line.split()[0]: int(line.split()[1 + column]) for line in table}
    return Counter({rule: number for rule, number in counts.items() if number and rule != "total"})


@pytest.fixture
def code(small_night):
    return small_night.folder / "code"


def test_the_jobs_are_those_that_snakemake_announces(small_night, code, tmp_path):
    small_night.copy_inputs(tmp_path)
    plan = reduced(tmp_path, "plan", code=code)
    assert planned(plan, 2) == reduced(tmp_path, "--dry-run", code=code).jobs
    assert (tmp_path / "results/plan.txt").read_text() in plan.text  # nothing of it is cut
    assert plan.text.rstrip().endswith("tells of these jobs") and "Finished jobid" not in plan.text


def test_a_frame_more_is_planned_as_snakemake_does(small_night, code, tmp_path):
    folder = small_night.copy(tmp_path)
    shutil.copy2(small_night.spare / "Light_V_004.fits", folder / "raw")
    plan, dry = reduced(folder, "plan", code=code), reduced(folder, "--dry-run", code=code)
    assert planned(plan, 2) == dry.jobs and planned(plan, 2)["light"] == 1


def test_estimates_hold_for_a_run(small_night, monkeypatch):
    """Disk within a tenth of what a run left, time within a factor of two of what its logs told."""
    monkeypatch.chdir(small_night.folder)
    from firstlight import frames as tables
    from firstlight import textfile
    from firstlight.outlook import look_around

    config = complete(yaml.safe_load(Path("config.yaml").read_text()), SCHEMA)
    table = tables.read("results")
    night = Night(table.rows, config)
    one = Outlook(night, table, look_around(night, 1, {}), textfile.read)
    assert one.ahead == []
    on_disk = sum(os.path.getsize(path) for job in one.jobs for path in job.outputs)
    assert one.disk(one.jobs) == pytest.approx(on_disk, rel=0.1)
    logs = [forecast.told(textfile.read(log_of(job, "results"))) for job in one.jobs]
    assert None not in logs
    assert 0.5 < one.duration(one.jobs).mean / sum(max(log.seconds, log.cpu) for log in logs) < 2
    assert one.duration(one.jobs).unknown == ()


def test_a_folder_without_lights_is_planned_with_exit_code_0(small_night, code, tmp_path):
    (tmp_path / "raw").mkdir()
    run = snakemake(tmp_path, "plan", code=code)
    assert run.code == 0 and "no FITS file there" in run.text
