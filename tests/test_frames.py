"""The frames table and the reader of raw files. Truth: files made here whose content is known, and the real sets."""

import bz2
import gzip
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from firstlight import cards, frames, raw
from firstlight.header import Settings

DATA = Path(__file__).parents[2] / "shared" / "data"
real = pytest.mark.skipif(not DATA.exists(), reason="the folder of real frames ../shared/data is absent")


def image(seed=0, dtype=np.uint16, shape=(6, 8)):
    return np.random.default_rng(seed).integers(0, 60000 if dtype == np.uint16 else 100, shape).astype(dtype)


def write(path, seed=0, data=None, **cards):
    """A raw frame; keywords with _ for -."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hdu = fits.PrimaryHDU(image(seed) if data is None else data)
    for key, value in cards.items():
        hdu.header[key.replace("_", "-")] = value
    hdu.writeto(path, overwrite=True)
    return path


def update(tmp_path, settings=None, **options):
    return frames.update(str(tmp_path / "raw"), str(tmp_path / "results"), settings, **options)


def light(path, seed, **cards):
    return write(path, seed, **{"IMAGETYP": "light", "OBJECT": "M42", "FILTER": "R", "EXPTIME": 60.0, **cards})


def reason(tmp_path, settings=None):
    (rejected,) = update(tmp_path, settings).rejected
    return rejected.reason


# --- Finding --------------------------------------------------------------------------------------------------------
def test_suffixes_in_any_case(tmp_path):
    names = ["a.fits", "b.FIT", "c.Fts", "d.fits.gz", "e.fit.FZ", "f.FTS.bz2"]
    for name in [*names, "g.txt", "h.fits.txt", "fits"]:
        (tmp_path / name).touch()
    assert [os.path.basename(path) for path in raw.find(str(tmp_path))] == names


def test_paths_stay_as_the_user_gave_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("raw/sub/a.fits"))
    assert raw.find("raw") == ["raw/sub/a.fits"]


def test_results_and_hidden_folders_are_left_out(tmp_path):
    for folder in ("results", ".snakemake", "night"):
        write(tmp_path / folder / "a.fits")
    (tmp_path / "results" / raw.MARKER).mkdir()
    assert raw.find(str(tmp_path)) == [str(tmp_path / "night" / "a.fits")]


def test_products_beside_the_raw_frames_are_left_out(tmp_path):
    (tmp_path / raw.MARKER).mkdir()
    write(tmp_path / "lights" / "a.fits")
    write(tmp_path / "night" / "lights" / "b.fits")
    assert raw.find(str(tmp_path)) == [str(tmp_path / "night" / "lights" / "b.fits")]


def test_a_loop_of_links_ends(tmp_path):
    write(tmp_path / "raw" / "sub" / "a.fits")
    os.symlink(tmp_path / "raw", tmp_path / "raw" / "sub" / "loop")
    assert raw.find(str(tmp_path / "raw")) == [str(tmp_path / "raw" / "sub" / "a.fits")]


def test_linked_folders_are_followed_once(tmp_path):
    write(tmp_path / "elsewhere" / "a.fits")
    (tmp_path / "raw").mkdir()
    for name in ("one", "two"):
        os.symlink(tmp_path / "elsewhere", tmp_path / "raw" / name)
    assert raw.find(str(tmp_path / "raw")) == [str(tmp_path / "raw" / "one" / "a.fits")]


def test_folders_in_folders_are_searched_once(tmp_path):
    write(tmp_path / "raw" / "sub" / "a.fits")
    assert len(raw.find([str(tmp_path / "raw"), str(tmp_path / "raw" / "sub")])) == 1


def test_a_missing_raw_folder(tmp_path):
    with pytest.raises(ValueError, match="does not exist: set raw:"):
        raw.find(str(tmp_path / "nothing"))


# --- Reading --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64])
def test_pixels_come_back_in_their_own_type(tmp_path, dtype):
    data = image(dtype=dtype)
    read, _ = raw.read(str(write(tmp_path / "a.fits", data=data)))
    assert read.dtype == dtype and read.dtype.isnative
    np.testing.assert_array_equal(read, data)


def test_scale_and_zero_are_applied(tmp_path):
    hdu = fits.PrimaryHDU(np.array([[0, 1], [2, 3]], np.int16))
    hdu.header["BSCALE"], hdu.header["BZERO"] = 0.5, 10.0
    (tmp_path / "a.fits").write_bytes(
        hdu.header.tostring().encode() + hdu.data.astype(">i2").tobytes().ljust(2880, b"\0")
    )
    np.testing.assert_array_equal(raw.read(str(tmp_path / "a.fits"))[0], np.float32([[10, 10.5], [11, 11.5]]))


def test_blank_pixels_become_nan(tmp_path):
    header = fits.Header([("SIMPLE", True), ("BITPIX", 16), ("NAXIS", 2), ("NAXIS1", 2), ("NAXIS2", 2), ("BLANK", -5)])
    stored = np.array([[-5, 1], [2, 3]], ">i2").tobytes()
    (tmp_path / "a.fits").write_bytes(header.tostring().encode() + stored.ljust(2880, b"\0"))
    np.testing.assert_array_equal(raw.read(str(tmp_path / "a.fits"))[0], np.float32([[np.nan, 1], [2, 3]]))


def test_axes_of_one_pixel_are_dropped(tmp_path):
    path = write(tmp_path / "a.fits", data=image()[None])
    assert raw.read(str(path))[0].shape == (6, 8)


def test_image_in_an_extension_inherits_the_primary_header(tmp_path):
    primary = fits.PrimaryHDU(header=fits.Header({"OBJECT": "M42", "FILTER": "primary"}))
    fits.HDUList([primary, fits.ImageHDU(image(), fits.Header({"FILTER": "R"}))]).writeto(tmp_path / "a.fits")
    data, header = raw.read(str(tmp_path / "a.fits"))
    assert (header["OBJECT"], header["FILTER"]) == ("M42", "R")
    np.testing.assert_array_equal(data, image())


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32])
def test_a_compressed_copy_has_the_same_hash(tmp_path, dtype):
    data = image(dtype=dtype, shape=(40, 50))
    plain = write(tmp_path / "a.fits", data=data)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data)]).writeto(tmp_path / "b.fits.fz")
    (tmp_path / "c.fits.gz").write_bytes(gzip.compress(plain.read_bytes()))
    (tmp_path / "d.fits.bz2").write_bytes(bz2.compress(plain.read_bytes()))
    hashes = {raw.scan(path).pixel_hash for path in raw.find(str(tmp_path))}
    assert len(hashes) == 1


def test_other_pixels_have_another_hash():
    data = image()
    other = data.copy()
    other[0, 0] ^= 1
    assert len({raw.pixel_hash(x) for x in (data, other, data.T, data.astype(np.int32))}) == 4


def test_header_without_storage_and_with_its_texts(tmp_path):
    header = raw.read_header(str(write(tmp_path / "a.fits", OBJECT="Cat's Eye", EXPTIME=1.5, HISTORY="x")))
    assert list(header) == ["OBJECT", "EXPTIME", "HISTORY"]
    assert header["OBJECT"] == "Cat's Eye"


def cards_file(path, cards):
    base = ["SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   =                    2"]
    base += ["NAXIS1  =                    2", "NAXIS2  =                    2", *cards, "END"]
    text = b"".join(c.encode("latin-1")[:80].ljust(80) for c in base)
    path.write_bytes(text.ljust(-(-len(text) // 2880) * 2880) + bytes([1, 2, 3, 4]).ljust(2880, b"\0"))
    return str(path)


def test_odd_but_readable_cards(tmp_path):
    path = cards_file(tmp_path / "a.fits", ["EXPTIME = 060.00 / s", "OBJECT='M42'", "GAIN    = 1.5D0"])
    assert dict(raw.read_header(path)) == {"EXPTIME": 60.0, "OBJECT": "M42", "GAIN": 1.5}


def test_malformed_cards_are_left_out_and_noted(tmp_path):
    path = cards_file(tmp_path / "a.fits", ["OBJECT  = 'M42", "FILTER  = 'R'", "BAD     = 1.2.3", "no value at all"])
    assert dict(raw.read_header(path)) == {"FILTER": "R"}
    with raw.quiet():
        notes = cards.parse(raw.scan(path).text)[1]
    assert [note.split(" ")[4] for note in notes] == ["OBJECT", "BAD", "no"]


def test_a_keyword_that_stands_twice(tmp_path):
    path = cards_file(tmp_path / "a.fits", ["OBJECT  = 'M42'", "OBJECT  = 'M31'"])
    header, notes = cards.parse(raw.scan(path).text)
    assert header["OBJECT"] == "M42"
    assert notes == ["OBJECT stands twice with different values: the first is taken"]


def test_a_damaged_storage_card_is_left_out(tmp_path):
    header = raw.read_header(cards_file(tmp_path / "a.fits", ["NAXIS  u=                    0", "FILTER  = 'R'"]))
    assert dict(header) == {"FILTER": "R"}


@pytest.mark.parametrize("text", ["1E999", "nan", "two"])
def test_storage_that_is_no_number(tmp_path, text):
    path = Path(cards_file(tmp_path / "a.fits", []))
    path.write_bytes(path.read_bytes().replace(b"NAXIS2  =                    2", f"NAXIS2  = {text:>20}".encode()))
    with pytest.raises(ValueError, match=f"the header's NAXIS2 = {text} is not a number"):
        raw.read(str(path))


def test_letters_beyond_ascii(tmp_path):
    assert raw.read_header(cards_file(tmp_path / "a.fits", ["OBJECT  = 'Å 1'"]))["OBJECT"] == "? 1"


def test_long_values(tmp_path):
    text = "x" * 150
    path = write(tmp_path / "a.fits", LONGTEXT=text)
    assert raw.read_header(str(path))["LONGTEXT"] == text
    assert cards.values(raw.scan(str(path)).text)[0]["LONGTEXT"] == text


def test_a_thousand_cards(tmp_path):
    path = cards_file(tmp_path / "a.fits", [f"KEY{i:04d} = {i}" for i in range(1000)])
    assert raw.read_header(path)["KEY0999"] == 999


def test_wrong_checksum_is_a_note(tmp_path):
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(image()).writeto(path, checksum=True)
    assert raw.scan(str(path)).notes == []
    content = bytearray(path.read_bytes())
    content[2880] ^= 1
    path.write_bytes(content)
    assert raw.scan(str(path)).notes == ["DATASUM does not fit the data: changed since it was written"]


def primary_and(*more):
    return fits.HDUList([fits.PrimaryHDU(), *more])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.write_bytes(b""), "the file is empty"),
        (lambda p: p.write_bytes(b"hello" * 999), "not a FITS file: it begins with b'hello"),
        (lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "a pointer file of Git LFS"),
        (lambda p: p.write_bytes(b"\x00\x05\x16\x07" + bytes(4092)), "a resource fork"),
        (lambda p: write(p, data=image()[None].repeat(3, 0)), r"a cube of 3 images \(8x6x3\)"),
        (lambda p: write(p, data=np.arange(9)), "not a picture: the image is of 9 pixels"),
        (lambda p: primary_and().writeto(p), "only a header"),
        (
            lambda p: primary_and(fits.BinTableHDU.from_columns([fits.Column("a", "E", array=[1])])).writeto(p),
            "only a table",
        ),
        (lambda p: primary_and(*(fits.ImageHDU(image(i)) for i in range(3))).writeto(p), "3 images of the same size"),
        (lambda p: write(p, data=np.full((4, 4), np.nan)), "no pixel of the image holds a number"),
        (lambda p: p.write_bytes(b"SIMPLE  =                    T".ljust(2880)), "ends in the middle of its header"),
        (lambda p: p.write_bytes(gzip.compress(b"SIMPLE" * 999)[:-20]), "compressed file is damaged"),
        (lambda p: p.write_bytes(b"BZh9" + bytes(99)), "compressed file is damaged"),
    ],
)
def test_what_is_no_frame_says_so(tmp_path, make, message):
    make(tmp_path / "a.fits")
    with pytest.raises(ValueError, match=message):
        raw.scan(str(tmp_path / "a.fits"))


@pytest.mark.parametrize("length", [2880, 2881, 2880 + 95])
def test_truncated_data_says_how_much_is_there(tmp_path, length):
    path = write(tmp_path / "a.fits")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=f"in the middle of its data: {length - 2880} of 96 bytes"):
        raw.read(str(path))


def test_missing_padding_is_no_fault(tmp_path):
    path = write(tmp_path / "a.fits")
    path.write_bytes(path.read_bytes()[: 2880 + 96])
    np.testing.assert_array_equal(raw.read(str(path))[0], image())


def test_a_size_that_no_memory_holds(tmp_path):
    path = cards_file(tmp_path / "a.fits", [])
    Path(path).write_bytes(
        Path(path).read_bytes().replace(b"NAXIS1  =                    2", b"NAXIS1  =       99999999999999")
    )
    with pytest.raises(ValueError, match="ends in the middle of its data"):
        raw.read(path)


def test_a_resource_fork_by_its_name(tmp_path):
    path = write(tmp_path / "._a.fits")
    with pytest.raises(ValueError, match="resource fork"):
        raw.read(str(path))


# --- The table ------------------------------------------------------------------------------------------------------
def test_the_table_comes_back_from_its_files(tmp_path):
    light(tmp_path / "raw" / "a.fits", 1, CCD_TEMP=-10.0, DATE_OBS="2025-06-02T03:39:07", RA=83.6, DEC=-5.4)
    write(tmp_path / "raw" / "b.fits", 2)
    (tmp_path / "raw" / "c.fits").write_bytes(b"")
    assert update(tmp_path) == frames.read(str(tmp_path / "results"))


def test_reading_without_a_table(tmp_path):
    with pytest.raises(FileNotFoundError, match="frames.csv is not there"):
        frames.read(str(tmp_path))


def test_name_is_stem_and_hash(tmp_path):
    path = light(tmp_path / "raw" / "Light 1.fits", 1)
    (row,) = update(tmp_path).rows
    assert row.name == f"Light_1_{raw.pixel_hash(fits.getdata(path))[:8]}"


def test_same_file_name_in_two_folders(tmp_path):
    light(tmp_path / "raw" / "n1" / "a.fits", 1)
    light(tmp_path / "raw" / "n2" / "a.fits", 2)
    assert len({row.name for row in update(tmp_path).rows}) == 2


def test_duplicates_leave_the_plainest_copy(tmp_path):
    path = light(tmp_path / "raw" / "deep" / "er" / "a.fits", 1)
    (tmp_path / "raw" / "a.fits.gz").write_bytes(gzip.compress(path.read_bytes()))
    table = update(tmp_path)
    assert [row.path for row in table.rows] == [str(path)]
    assert table.rejected == [frames.Rejected(str(tmp_path / "raw" / "a.fits.gz"), f"same pixels as {path}")]


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        (
            {"BAYERPAT": "CYGM"},
            "colour sensor: nothing says how its colours lie (BAYERPAT = 'CYGM'): "
            "cameras: bayer: RGGB (or BGGR, GRBG, GBRG; none for a mono sensor) says it",
        ),
        (
            {"CALSTAT": "BDF"},
            "already calibrated or stacked (CALSTAT = 'BDF'): set calibrated: true to use such frames",
        ),
        ({"FLVERS": "0.1.0"}, "made by firstlight (FLVERS = '0.1.0'): not a raw frame"),
        ({"IMAGETYP": "focus"}, "IMAGETYP = 'focus': neither a light nor a calibration frame"),
    ],
)
def test_rejected_by_the_header(tmp_path, cards, message):
    light(tmp_path / "raw" / "a.fits", 1, **cards)
    assert reason(tmp_path) == message


def test_rejected_for_equal_pixels(tmp_path):
    write(tmp_path / "raw" / "a.fits", data=np.full((4, 4), 7, np.uint16))
    assert reason(tmp_path) == "every pixel has the same value (7)"


def test_calibrated_frames_on_request(tmp_path):
    light(tmp_path / "raw" / "a.fits", 1, CALSTAT="BDF")
    assert len(update(tmp_path, Settings(calibrated=True)).rows) == 1


def test_own_products_are_never_raw(tmp_path):
    light(tmp_path / "raw" / "a.fits", 1, FLVERS="0.1.0")
    assert reason(tmp_path, Settings(calibrated=True)).startswith("made by firstlight")


def test_a_dangling_link_is_reported_and_tried_again(tmp_path):
    (tmp_path / "raw").mkdir()
    os.symlink(tmp_path / "later.fits", tmp_path / "raw" / "a.fits")
    assert reason(tmp_path) == "a link to a file that is not there"
    light(tmp_path / "later.fits", 1)
    assert len(update(tmp_path).rows) == 1


def test_camera_is_told_by_the_frame_alone(tmp_path):
    cards = {"INSTRUME": "ZWO ASI2600MM Pro", "GAIN": 100, "OFFSET": 50, "XBINNING": 2, "READOUTM": "Low noise"}
    light(tmp_path / "raw" / "a.fits", 1, **cards)
    (row,) = update(tmp_path).rows
    assert row.camera == "ZWO_ASI2600MM_Pro_2x2_8x6_Low_noise_g100_o50"


def test_the_usual_readout_mode_is_not_named(tmp_path):
    light(tmp_path / "raw" / "a.fits", 1, INSTRUME="dcam", READOUTM="Monochrome")
    light(tmp_path / "raw" / "b.fits", 2, INSTRUME="dcam")
    assert {row.camera for row in update(tmp_path).rows} == {"dcam_1x1_8x6"}


def test_spellings_of_a_target_are_one(tmp_path):
    light(tmp_path / "raw" / "a.fits", 1, OBJECT="ngc 869")
    light(tmp_path / "raw" / "b.fits", 2, OBJECT="NGC869")
    assert {(row.target, row.object) for row in update(tmp_path).rows} == {("NGC869", "NGC869")}


def test_a_new_spelling_renames_nothing(tmp_path):
    light(tmp_path / "raw" / "a.fits", 1, OBJECT="ngc 869")
    before = update(tmp_path).rows[0].target
    light(tmp_path / "raw" / "b.fits", 2, OBJECT="NGC869")
    assert {row.target for row in update(tmp_path).rows} == {before} == {"ngc_869"}


def test_a_second_filter_renames_nothing(tmp_path):
    light(tmp_path / "raw" / "a.fits", 1, FILTER="r")
    update(tmp_path)
    light(tmp_path / "raw" / "b.fits", 2, FILTER="R")
    one, other = update(tmp_path).rows
    assert one.filter == "r"
    assert other.filter.startswith("R-") and other.band == "R"


def test_names_stay_inside_the_results_folder(tmp_path):
    light(tmp_path / "raw" / "a.fits", 1, OBJECT="../../x", FILTER="/etc/{x}$(y)*", INSTRUME="..")
    (row,) = update(tmp_path).rows
    assert (row.target, row.filter, row.camera) == ("x", "etcxy", "_1x1_8x6")


def test_dithered_lights_without_a_name_are_one_target(tmp_path):
    for i in range(3):  # each falls into another minute of right ascension
        light(
            tmp_path / "raw" / f"{i}.fits",
            i,
            OBJECT="",
            RA=31.24 + 0.02 * i,
            DEC=46.76,
            DATE_OBS=f"2025-06-02T03:0{i}:00",
        )
    assert {row.target for row in update(tmp_path).rows} == {"J0204+4645"}


def test_repairs_reach_the_table_and_its_hash(tmp_path):
    light(tmp_path / "raw" / "a.fits", 1, OBJECT="m 42")
    plain = update(tmp_path).rows[0]
    mended = update(tmp_path, Settings(header={"OBJECT": "Orion"})).rows[0]
    assert mended.object == "Orion"
    assert mended.header_hash != plain.header_hash
    assert mended.pixel_hash == plain.pixel_hash


def test_header_hash_knows_only_what_is_said(tmp_path):
    one = light(tmp_path / "raw" / "a.fits", 1)
    before = update(tmp_path).rows[0].header_hash
    with fits.open(one, mode="update") as hdus:
        hdus[0].header["COMMENT"] = "a remark"
        hdus[0].header["CHECKSUM"] = "x"
        hdus[0].header.comments["EXPTIME"] = "[s]"
    assert update(tmp_path).rows[0].header_hash == before


# --- Nights ---------------------------------------------------------------------------------------------------------
def test_longest_gap():
    assert frames.longest_gap([3.0, 4.0, 5.0, 6.0]) == pytest.approx(16.5)
    assert frames.longest_gap([22.0, 2.0]) == pytest.approx(12.0)
    assert frames.longest_gap([]) == 12.0


def test_longest_gap_counts_from_minus_one_to_23():
    assert frames.longest_gap([8.0, 15.4]) == pytest.approx(-0.3)


@pytest.mark.parametrize("start", range(0, 24, 3))
def test_a_night_is_not_cut_wherever_it_lies_in_utc(tmp_path, start):
    for i in range(8):
        day, hour = divmod(start + i, 24)
        light(tmp_path / "raw" / f"{i}.fits", i, DATE_OBS=f"2025-06-{2 + day:02d}T{hour:02d}:30:00")
    assert len({row.night for row in update(tmp_path).rows}) == 1


def test_two_nights_without_a_place_are_two(tmp_path):
    for i, time in enumerate(["2025-06-01T22:00:00", "2025-06-02T01:00:00", "2025-06-02T22:00:00"]):
        light(tmp_path / "raw" / f"{i}.fits", i, DATE_OBS=time)
    assert [row.night for row in update(tmp_path).rows] == ["2025-06-01", "2025-06-01", "2025-06-02"]


def test_a_frame_more_inside_the_night_moves_no_other(tmp_path):
    for i, hour in enumerate((20, 22, 3)):
        light(tmp_path / "raw" / f"{i}.fits", i, DATE_OBS=f"2025-06-{1 + (hour < 12):02d}T{hour:02d}:00:00")
    before = {row.path: row.night for row in update(tmp_path).rows}
    light(tmp_path / "raw" / "9.fits", 9, DATE_OBS="2025-06-02T00:30:00")
    after = {row.path: row.night for row in update(tmp_path).rows}
    assert before.items() <= after.items()
    assert set(after.values()) == {"2025-06-01"}


# --- Again ----------------------------------------------------------------------------------------------------------
def opened(monkeypatch):
    """Paths of the files that are opened from here on."""
    paths, scan = [], raw.scan
    monkeypatch.setattr(raw, "scan", lambda path: paths.append(os.path.basename(path)) or scan(path))
    return paths


def stamps(tmp_path):
    return {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*") if path.is_file()}


def test_nothing_new_opens_and_writes_nothing(tmp_path, monkeypatch):
    light(tmp_path / "raw" / "a.fits", 1)
    first, before = update(tmp_path), stamps(tmp_path)
    paths = opened(monkeypatch)
    assert update(tmp_path) == first
    assert (paths, stamps(tmp_path)) == ([], before)


def test_a_touched_file_is_opened_and_changes_nothing(tmp_path, monkeypatch):
    path = light(tmp_path / "raw" / "a.fits", 1)
    update(tmp_path)
    before = stamps(tmp_path)
    os.utime(path, (1, 1))
    paths = opened(monkeypatch)
    update(tmp_path)
    csv = tmp_path / "results" / "frames.csv"
    assert (paths, csv.stat().st_mtime_ns) == (["a.fits"], before[csv])


def test_only_a_new_file_is_opened(tmp_path, monkeypatch):
    light(tmp_path / "raw" / "a.fits", 1)
    update(tmp_path)
    light(tmp_path / "raw" / "b.fits", 2)
    paths = opened(monkeypatch)
    assert len(update(tmp_path).rows) == 2
    assert paths == ["b.fits"]


def test_new_settings_open_nothing(tmp_path, monkeypatch):
    light(tmp_path / "raw" / "a.fits", 1)
    update(tmp_path)
    paths = opened(monkeypatch)
    assert update(tmp_path, Settings(filters={"Red": ["R"]})).rows[0].filter == "Red"
    assert paths == []


def test_changed_pixels_are_seen(tmp_path):
    path = light(tmp_path / "raw" / "a.fits", 1)
    before = update(tmp_path).rows[0]
    light(path, 2)
    os.utime(path, (1, 1))
    assert update(tmp_path).rows[0].pixel_hash != before.pixel_hash


def test_a_removed_file_leaves_the_table(tmp_path):
    path = light(tmp_path / "raw" / "a.fits", 1)
    light(tmp_path / "raw" / "b.fits", 2)
    update(tmp_path)
    path.unlink()
    assert [row.path for row in update(tmp_path).rows] == [str(tmp_path / "raw" / "b.fits")]


def test_a_table_edited_by_hand_is_made_anew(tmp_path):
    light(tmp_path / "raw" / "a.fits", 1)
    table = update(tmp_path)
    (tmp_path / "results" / "frames.csv").write_text("nonsense")
    update(tmp_path)
    assert frames.read(str(tmp_path / "results")) == table


def test_a_damaged_cache_is_made_anew(tmp_path):
    light(tmp_path / "raw" / "a.fits", 1)
    table = update(tmp_path)
    (tmp_path / "results" / raw.MARKER / "frames.json").write_text("{nonsense")
    assert update(tmp_path) == table


def test_an_interrupted_first_reading_is_kept(tmp_path, monkeypatch):
    for i in range(20):
        light(tmp_path / "raw" / f"{i}.fits", i)

    def stop(done, total):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update(tmp_path, progress=stop)
    paths = opened(monkeypatch)
    assert len(update(tmp_path).rows) == 20
    assert len(paths) <= 10


def test_progress_counts_to_the_end(tmp_path):
    for i in range(3):
        light(tmp_path / "raw" / f"{i}.fits", i)
    seen = []
    update(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_raw_files_are_not_touched(tmp_path):
    path = light(tmp_path / "raw" / "a.fits", 1)
    before = path.read_bytes(), path.stat().st_mtime_ns, sorted(os.listdir(tmp_path / "raw"))
    update(tmp_path, Settings(header={"OBJECT": "x"}))
    assert (path.read_bytes(), path.stat().st_mtime_ns, sorted(os.listdir(tmp_path / "raw"))) == before


def test_a_name_that_is_not_utf8(tmp_path):
    """Snakemake would end with it, and with it the night."""
    path = light(tmp_path / "raw" / "a.fits", 1)
    strange = os.fsdecode(os.path.join(os.fsencode(path.parent), b"\xff\r.fits"))
    os.rename(path, strange)
    update(tmp_path)
    table = frames.read(str(tmp_path / "results"))
    reason = "its name, or that of its folder, is not UTF-8: rename it"
    assert table == frames.Table([], [frames.Rejected(strange, reason)])


# --- The report -----------------------------------------------------------------------------------------------------
def test_report_of_what_was_read_from_where(tmp_path):
    light(tmp_path / "raw" / "a.fits", 1)
    write(tmp_path / "raw" / "b.fits", 2, OBJECT="M42", EXPTIME=1.0)
    (tmp_path / "raw" / "c.fits").write_bytes(b"")
    update(tmp_path)
    report = frames.headers_report(str(tmp_path / "results"))
    assert "kind\n     1  IMAGETYP:  'light' (1)\n     1  nothing\n" in report
    assert "     1  nothing says what kind of frame this is: taken for a light   e.g. " in report
    assert "     1  the file is empty   e.g. " in report


# --- Real sets ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def real_set(tmp_path_factory):
    def make(name, settings=None):
        return frames.update(str(DATA / name), str(tmp_path_factory.mktemp(name)), settings)

    return make


@real
def test_xo1_z(real_set):
    table = real_set("xo1_z")
    assert Counter((row.kind, row.object, row.filter, row.exposure) for row in table.rows if row.kind != "flat") == {
        ("light", "XO1-b", "z", 60.0): 12,
        ("light", "43Bet Com", "z", 30.0): 1,
        ("bias", "", "none", 0.0): 5,
        ("dark", "", "none", 60.0): 5,
    }
    assert [row.filter for row in table.rows if row.kind == "flat"] == ["z"] * 5
    assert {(row.night, row.camera) for row in table.rows} == {("2025-06-01", "dcam-spare_1x1_1024x1024")}
    assert table.rejected == []


@real
def test_catseye_grzha(real_set):
    table = real_set("catseye_grzha")
    assert Counter((row.kind, row.night, row.filter) for row in table.rows) == {
        ("bias", "2025-05-31", "none"): 3,
        ("dark", "2025-05-31", "none"): 3,
        ("flat", "2025-05-31", "g"): 3,
        ("flat", "2025-05-31", "r"): 3,
        ("flat", "2025-06-04", "z"): 3,
        ("flat", "2025-06-04", "Ha"): 3,
        **{("light", "2025-05-31", name): 1 for name in ("g", "r", "z", "Ha")},
    }
    assert {row.target for row in table.rows if row.kind == "light"} == {"Cats_Eye_Nebula"}


@real
def test_hatp32_wide(real_set):
    rows = real_set("hatp32_wide").rows
    assert {(row.kind, row.night, row.target, row.filter, row.nx, row.ny) for row in rows} == {
        ("light", "2017-12-19", "HATP-32", "Clear", 650, 500)
    }
    assert len(rows) == 12
    assert {row.notes for row in rows} == {"nothing says what kind of frame this is: taken for a light"}


@real
def test_panoptes_bayer(real_set):
    table = real_set("panoptes_bayer")
    # RGGB of a picture that stands upside down in the file: the greens show it.
    assert {os.path.basename(row.path): row.bayer for row in table.rows} == {
        "solved.fits.fz": "GBRG",
        "tiny.fits": "GBRG",
        "unsolved.fits": "GBRG",
    }
    assert all("the greens lie as in GBRG" in row.notes for row in table.rows)
    reasons = {os.path.basename(one.path): one.reason.split(" (")[0] for one in table.rejected}
    unknown = "colour sensor: nothing says how its colours lie"
    assert {reasons["pole.fits"], reasons["rotation.fits"]} == {unknown} and len(reasons) == 3


@real
def test_headers(real_set):
    table = real_set("headers")
    kinds = {raw.stem(row.path): (row.kind, row.object, row.band) for row in table.rows}
    assert kinds["aspen_trimmed"] == ("flat", "", "R")
    assert kinds["biastest1"] == ("bias", "", "none")
    assert kinds["maximdl_6_18_header"] == ("light", "kelt-16-b", "r")
    assert kinds["uint16"] == ("light", "J1403+5421", "R")
    assert Counter(r.reason.split(" ")[0] for r in table.rejected) == {"same": 9, "colour": 1}


@real
def test_broken(real_set):
    table = real_set("broken")
    assert {os.path.basename(r.path): r.reason for r in table.rejected} == {
        "._bias1.FIT": "a resource fork written by macOS, not an image",
        "blank.fits": "not a picture: the image is of 1x1 pixels",
        "c4d_210318_191034_zri.fits.fz": "a pointer file of Git LFS in place of the data: fetch the real file",
        "fixed-1890.fits": "every pixel has the same value (1890)",
        "random_groups.fits": "random groups (radio data), not an image",
        "table.fits": "no image in this file, only a table",
        "verify.fits": "no image in this file, only a header",
        "zerowidth.fits": "the image has no pixels (777777701x0)",
    }
    assert "DATASUM does not fit" in table.rows[0].notes


@real
def test_sections(real_set):
    (row,) = real_set("sections").rows
    assert (row.kind, row.target, row.filter, row.time) == ("light", "rf0420", "48", "2013-07-13T00:57:33.000")


@real
@pytest.mark.parametrize("name", ["xo1_z", "hatp32_wide", "sections", "headers", "panoptes_bayer"])
def test_pixels_and_cards_are_those_that_astropy_reads(name):
    for path in raw.find(str(DATA / name)):
        data, header = raw.read(path)
        with fits.open(path) as hdus:
            hdu = next(hdu for hdu in hdus if hdu.data is not None)
            np.testing.assert_array_equal(data, hdu.data)
            assert data.dtype == hdu.data.dtype.newbyteorder("=")
            known = [key for key in header if key in hdu.header and key not in cards.REMARKS]
            assert [header[key] for key in known] == [hdu.header[key] for key in known]
            assert len(known) >= len(set(hdu.header)) - 25
