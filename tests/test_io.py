"""Products written whole or not at all, and what jobs share. Truth: astropy's own readers, files and logs made here."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from firstlight import io, job
from firstlight.frame import Frame, Mask, Unusable

DATA = Path(__file__).parents[2] / "shared" / "data"
SCRIPTS = Path(__file__).parents[1] / "scripts"
real = pytest.mark.skipif(not DATA.exists(), reason="the folder of real frames ../shared/data is absent")


def frame(unit="electron", shape=(5, 7), **cards):
    rng = np.random.default_rng(1)
    data = rng.normal(100, 9, shape).astype(np.float32)
    mask = np.zeros(shape, np.uint8)
    mask[1, 2], mask[3, 4], mask[0, 0] = Mask.COSMIC_RAY | Mask.INTERPOLATED, Mask.SATURATED, Mask.NO_DATA
    data[0, 0] = np.nan
    return Frame(data, fits.Header(cards or {"OBJECT": "M42", "EXPTIME": 60.0}), np.sqrt(np.abs(data)), mask, unit)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- Frames ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("unit, known", [("electron", "electron"), ("adu", "adu"), ("", "")])
def test_ccddata_reads_a_product_as_it_is(tmp_path, unit, known):
    from astropy.nddata import CCDData, StdDevUncertainty

    one = frame(unit)
    io.write_frame(tmp_path / "a.fits", one)
    ccd = CCDData.read(tmp_path / "a.fits")
    np.testing.assert_array_equal(ccd.data, one.data)
    np.testing.assert_array_equal(ccd.uncertainty.array, one.sigma)
    assert isinstance(ccd.uncertainty, StdDevUncertainty)
    np.testing.assert_array_equal(ccd.mask.astype(bool), one.mask != 0)
    assert str(ccd.unit) == known


def test_a_frame_comes_back_bit_by_bit(tmp_path):
    one = frame()
    io.write_frame(tmp_path / "a.fits", one)
    back = io.read_frame(tmp_path / "a.fits")
    assert back.data.tobytes() == one.data.tobytes()
    assert back.sigma.tobytes() == one.sigma.tobytes()
    assert back.mask.tobytes() == one.mask.tobytes()
    assert (back.unit, back.header["OBJECT"], back.header["EXPTIME"]) == ("electron", "M42", 60.0)


def test_arrays_come_back_in_the_byte_order_of_the_machine(tmp_path):
    io.write_frame(tmp_path / "a.fits", frame())
    back = io.read_frame(tmp_path / "a.fits")
    assert back.data.dtype.isnative and back.sigma.dtype.isnative
    assert (back.data.dtype, back.sigma.dtype, back.mask.dtype) == (np.float32, np.float32, np.uint8)


def test_a_frame_without_sigma_comes_back_without(tmp_path):
    io.write_frame(tmp_path / "a.fits", frame().with_(sigma=None))
    assert io.read_frame(tmp_path / "a.fits").sigma is None


def test_the_mask_says_what_its_bits_mean(tmp_path):
    io.write_frame(tmp_path / "a.fits", frame())
    header = fits.getheader(tmp_path / "a.fits", "MASK")
    for bit, name in Mask.NAMES.items():
        assert header[f"BIT{int(np.log2(bit))}"] == name


def test_extensions_follow_and_are_read_by_name(tmp_path):
    coverage = np.arange(35, dtype=np.uint16).reshape(5, 7)
    rows = np.array([("light_1", 0.25)], dtype=[("name", "U20"), ("weight", "f8")])
    extensions = [io.image_hdu("COVERAGE", coverage, "frames that count"), io.table_hdu("INPUTS", rows)]
    io.write_frame(tmp_path / "a.fits", frame(), extensions)
    np.testing.assert_array_equal(io.read_extension(tmp_path / "a.fits", "COVERAGE"), coverage)
    table = io.read_extension(tmp_path / "a.fits", "INPUTS")
    assert (table["name"][0].decode(), table["weight"][0]) == ("light_1", 0.25)


def test_writing_leaves_the_frames_header_alone(tmp_path):
    one = frame(OBJECT="M42", FLVERS="0.0.0", BUNIT="adu", CHECKSUM="x")
    before = one.header.tostring()
    io.write_frame(tmp_path / "a.fits", one)
    assert one.header.tostring() == before


def test_cards_on_the_raw_files_storage_do_not_reach_a_product(tmp_path):
    raw = fits.Header(
        {"BSCALE": 1.0, "BZERO": 32768, "BLANK": -1, "DATAMAX": 65535.0, "CHECKSUM": "abc", "OBJECT": "M42"}
    )
    io.write_frame(tmp_path / "a.fits", frame().with_(header=raw))
    with fits.open(tmp_path / "a.fits", checksum=True) as hdus:
        left = set(hdus[0].header) & {"BSCALE", "BZERO", "BLANK", "DATAMAX", "CHECKSUM", "DATASUM"}
        assert not left
        assert hdus[0].header["OBJECT"] == "M42"


def test_the_unit_on_disk_is_the_frames_not_that_of_an_older_header(tmp_path):
    io.write_frame(tmp_path / "a.fits", frame("electron", BUNIT="adu"))
    assert fits.getheader(tmp_path / "a.fits")["BUNIT"] == "electron"


def test_long_keywords_and_long_texts_survive(tmp_path):
    cards = {"HIERARCH ESO DET CHIP GAIN NAME": 1.5, "NOTE": "long " * 30}
    io.write_frame(tmp_path / "a.fits", frame(**cards))
    header = io.read_header(tmp_path / "a.fits")
    assert header["ESO DET CHIP GAIN NAME"] == 1.5
    assert header["NOTE"] == ("long " * 30).strip()


@real
@pytest.mark.parametrize("path", sorted((DATA / "headers").glob("*.fit*")), ids=lambda path: path.stem)
def test_a_product_with_a_real_header_is_a_valid_fits_file(tmp_path, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = fits.getheader(path, 0)
        io.write_frame(tmp_path / "a.fits", frame().with_(header=header))
    with fits.open(tmp_path / "a.fits") as hdus:
        hdus.verify("exception")
        lost = {key for key in header if key} - set(hdus[0].header) - set(io.STORAGE) - set(io.STRUCTURAL)
        assert not lost


def test_a_malformed_card_is_left_out_and_its_neighbours_stay(tmp_path):
    cards = ("OBJECT  = 'M42     '", "BAD KEY!= what is this", "AIRMASS = 1.2.3", "EXPTIME =                 60.0")
    raw = fits.Header.fromstring("".join(card.ljust(80) for card in cards))
    io.write_frame(tmp_path / "a.fits", frame().with_(header=raw))
    with fits.open(tmp_path / "a.fits") as hdus:
        hdus.verify("exception")
        assert (hdus[0].header["OBJECT"], hdus[0].header["EXPTIME"]) == ("M42", 60.0)


# --- Whole or absent ------------------------------------------------------------------------------------------------
def test_a_file_has_its_name_only_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with io.whole(path) as part:
        part.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert files(tmp_path) == ["new/a.txt"]


def test_a_part_keeps_the_suffix_that_writers_go_by(tmp_path):
    with io.whole(tmp_path / "a.b.png") as part:
        part.touch()
        assert part.suffix == ".png"


def half_written(self, path, *_, **__):
    Path(path).write_bytes(b"SIMPLE  =")
    raise OSError(28, "No space left on device")


def test_a_failing_write_leaves_neither_product_nor_part(tmp_path, monkeypatch):
    monkeypatch.setattr(fits.HDUList, "writeto", half_written)
    with pytest.raises(OSError, match="No space"):
        io.write_frame(tmp_path / "a.fits", frame())
    assert files(tmp_path) == []


def test_a_failing_write_leaves_the_product_that_was_there(tmp_path, monkeypatch):
    io.write_frame(tmp_path / "a.fits", frame())
    before = (tmp_path / "a.fits").read_bytes()
    monkeypatch.setattr(fits.HDUList, "writeto", half_written)
    with pytest.raises(OSError, match="No space"):
        io.write_frame(tmp_path / "a.fits", frame(OBJECT="M43"))
    assert files(tmp_path) == ["a.fits"]
    assert (tmp_path / "a.fits").read_bytes() == before


def test_an_interrupted_write_leaves_no_part(tmp_path):
    with pytest.raises(KeyboardInterrupt), io.whole(tmp_path / "a.fits") as part:
        part.touch()
        raise KeyboardInterrupt
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path, name):
    with pytest.raises((TypeError, ValueError, KeyError)):
        io.write_picture(tmp_path / name, np.array([[object()]]))
    assert files(tmp_path) == []


def test_a_table_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        io.write_table(tmp_path / "a.ecsv", np.array([(object(),)], dtype=[("x", object)]))
    assert files(tmp_path) == []


# --- Dropped frames -------------------------------------------------------------------------------------------------
def test_a_dropped_frame_has_no_image_and_says_at_which_step_and_why(tmp_path):
    io.write_dropped(tmp_path / "a.fits", "light", "flat is 4x3 but the frame is 8x6: same binning?")
    with fits.open(tmp_path / "a.fits") as hdus:
        hdus.verify("exception")
        assert len(hdus) == 1 and hdus[0].data is None
        assert io.is_dropped(hdus[0].header)
        assert io.dropped_reason(hdus[0].header) == "light: flat is 4x3 but the frame is 8x6: same binning?"


@pytest.mark.parametrize(
    "reason, kept",
    [
        ("it's \u03b1 \u201csentence\u201d\nover two lines", "it's ? ?sentence? over two lines"),
        ("word " * 100, ("word " * 100).strip()),
    ],
)
def test_any_reason_can_be_written(tmp_path, reason, kept):
    io.write_dropped(tmp_path / "a.fits", "light", reason)
    assert io.read_header(tmp_path / "a.fits")["FLREASON"] == kept


def test_reading_a_dropped_frame_raises_its_reason(tmp_path):
    io.write_dropped(tmp_path / "a.fits", "trim", "no pixel has a value")
    with pytest.raises(ValueError, match="^trim: no pixel has a value$"):
        io.read_frame(tmp_path / "a.fits")


def test_a_dropped_frame_keeps_what_is_known_of_it_and_no_image_cards(tmp_path):
    io.write_frame(tmp_path / "a.fits", frame())
    io.write_dropped(tmp_path / "b.fits", "align", "no stars", io.read_header(tmp_path / "a.fits"))
    header = io.read_header(tmp_path / "b.fits")
    assert (header["OBJECT"], header["NAXIS"]) == ("M42", 0)
    assert "BUNIT" not in header and "NAXIS1" not in header


def test_a_product_is_not_dropped(tmp_path):
    io.write_frame(tmp_path / "a.fits", frame())
    assert not io.is_dropped(io.read_header(tmp_path / "a.fits"))


def test_masters_that_are_absent_or_dropped_are_none(tmp_path):
    io.write_frame(tmp_path / "bias.fits", frame())
    io.write_dropped(tmp_path / "flat.fits", "master_flat", "no usable flat frame")
    masters = io.read_masters({"bias": tmp_path / "bias.fits", "flat": tmp_path / "flat.fits"})
    assert masters["bias"].header["OBJECT"] == "M42"
    assert masters["dark"] is None and masters["flat"] is None


# --- Tables, pictures, removal --------------------------------------------------------------------------------------
ROWS = np.array([(1.5, np.nan, 3), (1 / 3, -2e-12, 70000)], dtype=[("x", "f8"), ("y", "f8"), ("flag", "i4")])


def test_a_table_comes_back_to_the_last_digit(tmp_path):
    io.write_table(tmp_path / "a.ecsv", ROWS, {"x": "pix"}, {"note": "# not a row"})
    back = io.read_table(tmp_path / "a.ecsv")
    assert back.dtype.names == ("x", "y", "flag")
    for name in back.dtype.names:
        np.testing.assert_array_equal(back[name], ROWS[name])


def test_astropy_reads_a_table_with_its_units(tmp_path):
    from astropy.table import Table

    io.write_table(tmp_path / "a.ecsv", ROWS, {"x": "pix"}, {"seeing": 2.5})
    table = Table.read(tmp_path / "a.ecsv")
    assert str(table["x"].unit) == "pix" and table.meta["seeing"] == 2.5
    np.testing.assert_array_equal(table["y"], ROWS["y"])


def test_a_table_without_rows_keeps_its_columns(tmp_path):
    io.write_table(tmp_path / "a.ecsv", ROWS[:0])
    back = io.read_table(tmp_path / "a.ecsv")
    assert len(back) == 0 and back.dtype.names == ("x", "y", "flag")


def test_a_table_of_one_row_is_still_a_table(tmp_path):
    io.write_table(tmp_path / "a.ecsv", ROWS[:1])
    assert io.read_table(tmp_path / "a.ecsv").shape == (1,)


def test_a_users_table_may_be_csv(tmp_path):
    (tmp_path / "stars.csv").write_text("ra,dec,mag\n10.5,-3.25,8\n")
    table = io.read_any_table(tmp_path / "stars.csv")
    assert (table["ra"][0], table["dec"][0], table["mag"][0]) == (10.5, -3.25, 8)


def test_a_users_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="nothing.csv cannot be read"):
        io.read_any_table(tmp_path / "nothing.csv")


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3)])
def test_a_png_holds_the_image_it_was_given(tmp_path, shape):
    from PIL import Image

    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    io.write_picture(tmp_path / "a.png", image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), image)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3)])
def test_a_tiff_holds_16_bits(tmp_path, shape):
    import tifffile

    image = (np.arange(np.prod(shape)) * 900).astype(np.uint16).reshape(shape)
    io.write_picture(tmp_path / "a.tiff", image)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tiff"), image)


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_words_are_seen_in_place_of_a_picture(tmp_path, name):
    from PIL import Image

    io.write_words(tmp_path / name, ["No picture: no stack could be made.", "R: \u03b1"])
    assert len(np.unique(np.asarray(Image.open(tmp_path / name)))) > 1


def test_removing_takes_emptied_folders_along_and_nothing_else(tmp_path):
    for name in ("steps/trim/a.fits", "steps/trim/b.fits", "lights/c.fits"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    gone = [tmp_path / "steps/trim/a.fits", tmp_path / "steps/trim/b.fits", tmp_path / "absent.fits"]
    assert io.remove(map(str, gone)) == [str(path) for path in gone[:2]]
    assert files(tmp_path) == ["lights/c.fits"]
    assert not (tmp_path / "steps").exists()


def test_sources_lie_beside_their_light():
    assert io.sources_path("results/lights/a.fits") == "results/lights/a.ecsv"


# --- Jobs -----------------------------------------------------------------------------------------------------------
def dropped(error, faults=job.FRAME_FAULTS):
    reasons = []
    with job.dropping(reasons.append, faults):
        raise error
    return reasons


@pytest.mark.parametrize("error", [ValueError("no stars"), np.linalg.LinAlgError("no stars"), IndexError("no stars")])
def test_a_fault_of_a_frame_becomes_its_reason(error):
    assert dropped(error) == ["no stars"]


def test_a_fault_without_words_is_named_by_its_kind():
    assert dropped(ZeroDivisionError()) == ["ZeroDivisionError"]


@pytest.mark.parametrize("error", [MemoryError(), OSError(28, "No space left on device"), TypeError("mistake")])
def test_other_errors_stop_the_job(error):
    with pytest.raises(type(error)):
        dropped(error)


def test_a_product_of_many_frames_is_given_up_only_on_purpose():
    assert dropped(Unusable("no usable frame"), Unusable) == ["no usable frame"]
    with pytest.raises(ValueError):
        dropped(ValueError("a mistake"), Unusable)


def run_job(tmp_path, body):
    """A script as Snakemake would run it; returns (exit code, terminal, log)."""
    log = tmp_path / "logs" / "job.log"
    script = (
        "import os, types, warnings\n"
        "from firstlight import job\n"
        f"snakemake = types.SimpleNamespace(log=[{str(log)!r}], rule='light', wildcards=['M42'], threads=1, config={{}})\n"
        f"with job.logged(snakemake):\n    {body}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={"PYTHONPATH": str(SCRIPTS)}
    )
    return done.returncode, done.stdout + done.stderr, log.read_text()


def test_all_that_a_job_says_goes_to_its_log(tmp_path):
    code, terminal, log = run_job(tmp_path, "print('one'); os.write(2, b'two'); warnings.warn('three')")
    assert (code, terminal) == (0, "")
    assert "one" in log and "two" in log and "three" in log


def test_what_is_for_the_terminal_is_marked_in_the_log(tmp_path):
    _, terminal, log = run_job(tmp_path, "job.tell('2 files removed')")
    assert terminal == "" and "note: 2 files removed\n" in log


@pytest.mark.parametrize(
    "error, said", [("TypeError('bad thing')", "bad thing"), ("MemoryError()", "not enough memory")]
)
def test_a_failing_job_says_why_in_its_log_above_the_traceback(tmp_path, error, said):
    code, terminal, log = run_job(tmp_path, f"raise {error}")
    assert (code, terminal) == (1, "")
    assert said in log.partition("Traceback")[0].splitlines()[-1] and "Traceback" in log


def test_a_damaged_product_is_named_with_the_way_out(tmp_path):
    path = tmp_path / "a.fits"
    io.write_frame(path, Frame(np.ones((64, 64), np.float32), fits.Header()))
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(OSError, match=r"a\.fits is damaged .* remove it"):
        io.read_frame(path)


def test_what_frames_share_comes_back(tmp_path):
    common = np.arange(12, dtype=np.uint8).reshape(3, 4)
    io.write_frame(tmp_path / "a.fits", Frame(np.ones((3, 4), np.float32), fits.Header(), common=common))
    np.testing.assert_array_equal(io.read_frame(tmp_path / "a.fits").common, common)


def test_masters_say_where_they_lie(tmp_path):
    path = tmp_path / "masters" / "2023-03-13" / "cam" / "bias.fits"
    io.write_frame(path, Frame(np.ones((3, 4), np.float32), fits.Header()))
    assert io.read_masters({"bias": str(path)})["bias"].header["FLMASTER"] == "2023-03-13/cam/bias"


def test_pixels_of_an_image_of_a_grid_and_of_what_is_not_there(tmp_path):
    io.write_frame(tmp_path / "a.fits", Frame(np.ones((3, 4), np.float32), fits.Header()))
    io.write_header(tmp_path / "grid.fits", fits.Header({"GRIDNX": 50, "GRIDNY": 20}))
    assert [io.pixels(tmp_path / name) for name in ("a.fits", "grid.fits", "b.fits")] == [12, 1000, 0]


@pytest.fixture
def compressing():
    """Products are compressed within the test."""
    io.compress_products(True)
    yield
    io.compress_products(False)


def a_large_frame():
    """300x500 pixels of noise, with a few NaN and flags."""
    rng = np.random.default_rng(5)
    data, sigma = rng.normal(100, 10, (300, 500)).astype(np.float32), np.full((300, 500), 10, np.float32)
    mask = (rng.random((300, 500)) < 0.01).astype(np.uint8) * np.uint8(Mask.COSMIC_RAY)
    data[10, 20] = np.nan
    return Frame(data, fits.Header({"OBJECT": "M42"}), sigma, mask, "electron", mask * np.uint8(3))


@pytest.mark.parametrize("part", ["data", "sigma", "mask", "common"])
def test_compressed_products_are_the_same(tmp_path, compressing, part):
    io.write_frame(
        tmp_path / "a.fits", a_large_frame(), [io.image_hdu("COVERAGE", np.ones((300, 500), np.uint16), "n")]
    )
    read = getattr(io.read_frame(tmp_path / "a.fits"), part)
    assert np.array_equal(read, getattr(a_large_frame(), part), equal_nan=part == "data")


def test_compressed_products_open_with_astropy(tmp_path, compressing):
    from astropy.nddata import CCDData

    io.write_frame(tmp_path / "a.fits", a_large_frame())
    ccd = CCDData.read(tmp_path / "a.fits")
    assert np.array_equal(ccd.uncertainty.array, a_large_frame().sigma)


def test_counts_beyond_15_bits_survive_compression(tmp_path, compressing):
    counts = np.arange(150000, dtype=np.uint32).reshape(300, 500).astype(np.uint16)
    io.write_frame(tmp_path / "a.fits", a_large_frame(), [io.image_hdu("COVERAGE", counts, "n")])
    assert np.array_equal(io.read_extension(tmp_path / "a.fits", "COVERAGE"), counts)


def test_compressed_products_are_smaller(tmp_path):
    io.write_frame(tmp_path / "plain.fits", a_large_frame())
    io.compress_products(True)
    io.write_frame(tmp_path / "small.fits", a_large_frame())
    io.compress_products(False)
    assert (tmp_path / "small.fits").stat().st_size < 0.6 * (tmp_path / "plain.fits").stat().st_size
