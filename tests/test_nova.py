"""The rung nova against a server on this machine that speaks nova's API and runs the real solve-field.

This does not test nova.astrometry.net itself: its accounts, its queue, its index files, nor what it does with images.
"""

import json

import numpy as np
import pytest
import simulated_night
from astropy.io import fits
from conftest import reduced
from firstlight import astrometry, nova, solve
from nova_server import NovaServer
from simulated_fields import SIZE, table_of
from test_engines import program, real_field  # noqa: F401

SHAPE = (SIZE, SIZE)


@pytest.fixture
def server(program, tmp_path):  # noqa: F811
    with NovaServer(tmp_path / "nova") as running:
        yield running


def task_of(found, seconds=20.0, stars=None, table=None):
    table = found.table if table is None else table
    return solve.Task(table, fits.Header(), SHAPE, stars, (found.pointing,), found.scale, 2.0, 0.2, None, seconds, None)


def test_success(server, real):
    found = real_field(real)
    attempt = solve.by_nova(task_of(found), "good", server.url)
    assert found.error(attempt.wcs) < 0.3  # from 1, the server counts
    assert attempt.engine == "nova"


def test_its_solution_is_fitted_to_the_catalogue(server, real):
    found = real_field(real)
    attempt = solve.by_nova(task_of(found, stars=found.stars), "good", server.url)
    assert found.error(attempt.wcs) < 0.1 and attempt.matched > 100


def test_only_positions_are_sent_and_they_are_private(server, real):
    found = real_field(real)
    solve.by_nova(task_of(found), "good", server.url)
    sent = server.asked[0]
    assert (sent["publicly_visible"], sent["allow_modifications"], sent["allow_commercial_use"]) == ("n", "n", "n")
    assert sent["scale_lower"] < found.scale < sent["scale_upper"]
    assert set(sent) - {"x", "y", "image_width", "image_height", "session", "crpix_center"} == {
        "publicly_visible", "allow_modifications", "allow_commercial_use", "center_ra", "center_dec", "radius",
        "scale_units", "scale_type", "scale_lower", "scale_upper",
    }  # fmt: skip
    assert sent["x"][0] == pytest.approx(found.table["x"][0] + 1, abs=0.001)


def test_failure(server, real):
    found = real_field(real)
    noise = table_of(np.random.default_rng(1).uniform(0, SIZE, (60, 2)), np.arange(60.0, 0, -1))
    attempt = solve.by_nova(task_of(found, table=noise), "good", server.url)
    assert attempt.wcs is None and attempt.reason == f"{server.url} found no solution"


def test_bad_key(server, real):
    with pytest.raises(nova.Unanswered, match=f"refused the key in {nova.KEY}"):
        solve.by_nova(task_of(real_field(real)), "bad", server.url)
    assert server.asked == []


def test_no_key_asks_nobody(server, real):
    with pytest.raises(nova.Unanswered, match=f"set the environment variable {nova.KEY}"):
        solve.by_nova(task_of(real_field(real)), None, server.url)
    assert server.paths == []


def test_time_out_and_taking_up_again(program, real, tmp_path):  # noqa: F811
    """The second attempt asks for the submission of the first, and sends nothing again."""
    found, numbers = real_field(real), []
    with NovaServer(tmp_path / "nova", hold=True) as server:
        with pytest.raises(nova.Unanswered, match="was not done within 1.5 s") as caught:
            solve.by_nova(task_of(found, 1.5), "good", server.url, None, numbers.append)
        assert numbers == [1] and caught.value.submission == 1
        server.release()
        attempt = solve.by_nova(task_of(found), None, server.url, 1, numbers.append)
        assert found.error(attempt.wcs) < 0.3
        assert len(server.asked) == 1 and numbers == [1]


def test_a_submission_that_the_server_forgot_is_sent_again(server, real):
    found, numbers = real_field(real), []
    attempt = solve.by_nova(task_of(found), "good", server.url, 77, numbers.append)
    assert found.error(attempt.wcs) < 0.3 and numbers == [1]


def test_refused_connection(real):
    found = real_field(real)
    with pytest.raises(nova.Unanswered, match="http://127.0.0.1:9 does not answer"):
        solve.by_nova(task_of(found, 5.0), "good", "http://127.0.0.1:9/")


def test_a_server_of_something_else(tmp_path, real):
    class Odd(NovaServer):
        def answer(self, path, words):
            return 200, b"<html>hello</html>"

    with Odd(tmp_path) as server:
        with pytest.raises(nova.Unanswered, match="does not speak nova's API .*nova_url"):
            solve.by_nova(task_of(real_field(real), 5.0), "good", server.url)


# ---- what is remembered, and what becomes of a light -----------------------------------------------------------------


def test_memory_is_of_one_question():
    text = nova.memory("this", 12, 3)
    assert (nova.remembered(text, "this"), nova.remembered(text, "that"), nova.attempt(text)) == (12, None, 3)


@pytest.mark.parametrize("text", ["", None, "half a li", "[1]", json.dumps({"attempt": "x"})])
def test_memory_that_is_none(text):
    assert (nova.remembered(text, "this"), nova.attempt(text)) == (None, 0)


def answer(wcs=None, **cards):
    header = fits.Header(cards | {"FLNOVA": "said"})
    return astrometry.replace_wcs(header, wcs)


def test_a_solved_light_keeps_its_own_wcs():
    wcs = astrometry.tangent_wcs((10, 10), (5, 5), np.eye(2) / 3600)
    light = astrometry.replace_wcs(fits.Header({"FLSOLVED": True}), wcs)
    other = astrometry.tangent_wcs((20, 10), (5, 5), np.eye(2) / 3600)
    assert nova.merged(light, answer(other, FLSOLVED=True))["CRVAL1"] == 10


def test_an_unsolved_light_gets_the_answers_wcs_and_cards():
    light = fits.Header({"FLSOLVED": False, "FLUNSOLV": "no", "FLSOLVER": "seiza", "CROTA1": 5.0, "OBJECT": "M 1"})
    other = astrometry.tangent_wcs((20, 10), (5, 5), np.eye(2) / 3600)
    merged = nova.merged(light, answer(other, FLSOLVED=True, FLSOLVER="nova", FLMATCH=9))
    assert (merged["CRVAL1"], merged["FLSOLVER"], merged["FLMATCH"], merged["OBJECT"]) == (20, "nova", 9, "M 1")
    assert "FLUNSOLV" not in merged and "CROTA1" not in merged
    assert light["FLUNSOLV"] == "no"


def test_an_unsolved_light_gets_the_servers_reason():
    light = fits.Header({"FLSOLVED": False, "FLUNSOLV": "seiza: no"})
    merged = nova.merged(light, answer(FLSOLVED=False, FLUNSOLV="seiza: no; nova: no key"))
    assert (merged["FLSOLVED"], merged["FLUNSOLV"]) == (False, "seiza: no; nova: no key")


# ---- a night ---------------------------------------------------------------------------------------------------------


def raw_lights(folder, found):
    """Two raw frames that show the sources of a field."""
    (folder / "raw").mkdir()
    rng = np.random.default_rng(6)
    for number in range(2):
        image = rng.normal(300, 5, SHAPE)
        simulated_night.paint(
            image, found.table["x"], found.table["y"], found.table["flux"] / 3, simulated_night.Profile("gauss", 3.0)
        )
        header = fits.Header({"IMAGETYP": "Light", "OBJECT": "h Per", "FILTER": "V", "EXPTIME": 30.0})
        header["DATE-OBS"] = f"2024-01-01T22:0{number}:00"
        header["RA"], header["DEC"], header["SCALE"] = *found.pointing, found.scale
        data = np.clip(image, 0, 65000).astype(np.uint16)
        fits.writeto(folder / "raw" / f"l{number}.fits", data, header)


CONFIG = """
catalogue: none
cosmic_ray: {{method: none}}
solve: {{order: [header, nova], nova_url: "{url}", nova_time_limit: 3.0}}
"""


def test_a_night_goes_on_and_the_next_run_takes_up_what_the_server_had_not_done(program, real, tmp_path, monkeypatch):  # noqa: F811
    """No light is calibrated again for it; and when the server has answered there is nothing left to do."""
    monkeypatch.setenv(nova.KEY, "good")
    found = real_field(real)
    raw_lights(tmp_path, found)
    with NovaServer(tmp_path / "nova", hold=True) as server:
        (tmp_path / "config.yaml").write_text(CONFIG.format(url=server.url))
        first = reduced(tmp_path)
        assert (first.jobs["light"], first.jobs["nova"], first.jobs["combine"]) == (2, 2, 1)
        listed = (tmp_path / "results" / "unsolved.csv").read_text()
        assert listed.count("was not done within 3 s") == 2
        server.release()
        second = reduced(tmp_path)
        assert (second.jobs["light"], second.jobs["nova"], second.jobs["align"]) == (0, 2, 2)
        assert len(server.asked) == 2
        assert not reduced(tmp_path, "--dry-run").jobs
    assert (tmp_path / "results" / "unsolved.csv").read_text().count("\n") == 1
    stack = fits.getheader(next(tmp_path.glob("results/stacks/*/V.fits")))
    middle = astrometry.middle_of(astrometry.read_wcs(stack), SHAPE)
    assert astrometry.separation(middle, found.truth.wcs.crval) * 3600 < 0.5 * found.scale
