"""Ready masters. Truth: files as this and other programs write them, of a detector that is known."""

import gzip
import os
import shutil

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty, VarianceUncertainty
from firstlight import frames, io, library, raw, ready
from firstlight.frame import Mask, Unusable
from firstlight.header import Settings
from firstlight.reduce import Reduction
from values import frame

SHAPE = (24, 40)
CARDS = {
    "INSTRUME": "cam",
    "DATE-OBS": "2023-03-12T22:00:00",
    "SITELONG": 0.0,
    "EXPTIME": 60.0,
    "CCD-TEMP": -10.0,
}  # fmt: skip


def values(seed, level=1000.0, noise=5.0, shape=SHAPE):
    return np.random.default_rng(seed).normal(level, noise, shape).astype(np.float32)


def write(path, data, *beside, **cards):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = fits.Header(CARDS | {key.replace("_", "-"): value for key, value in cards.items()})
    fits.HDUList([fits.PrimaryHDU(data, header), *beside]).writeto(path)
    return path


def whole(seed=1, level=1000.0):
    return np.round(values(seed, level)).astype(np.uint16)


def updated(tmp_path, *places, **settings):
    places = places or (tmp_path / "library",)
    return library.update(map(str, places), str(tmp_path / "results"), Settings(**settings))


def own_master(path, kind="bias", camera="cam_1x1_48x24", **cards):
    """A master as this program writes it; trimmed, so that its size is not that of a raw frame."""
    header = CARDS | {
        "IMAGETYP": f"master {kind}",
        "NIGHT": "2023-03-12",
        "FILTER": "R",
        "NCOMBINE": 5,
        "FLCAMERA": camera,
    }
    io.write_frame(path, frame(values(3), 2.0, None, "electron", **header | cards))
    return path


# --- Finding and describing -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "cards, kind",
    [
        ({"IMAGETYP": "Master Bias"}, "bias"),
        ({"IMAGETYP": "MASTERFLAT", "FILTER": "R"}, "flat"),
        ({"IMAGETYP": "master dark"}, "dark"),
        ({"IMAGETYP": "Dark Frame", "NCOMBINE": 20}, "dark"),
        ({"IMAGETYP": "Flat", "CALSTAT": "BD"}, "flat"),
    ],
)
def test_a_master_of_another_program_is_described_from_its_header(tmp_path, cards, kind):
    write(tmp_path / "library" / "a.fits", whole(), **cards)
    (row,) = updated(tmp_path).rows
    assert (row.kind, row.night, row.exposure, row.temperature) == (kind, "2023-03-12", 60.0, -10.0)
    assert row.camera == "cam_1x1_40x24" and (row.nx, row.ny) == (40, 24)


@pytest.mark.parametrize(
    "name, kind", [("MasterDark_60s", "dark"), ("superbias", "bias"), ("dark_flat_3s", "flatdark")]
)
def test_the_files_name_tells_the_kind_where_its_header_does_not(tmp_path, name, kind):
    write(tmp_path / "library" / f"{name}.fits", values(1))
    assert [row.kind for row in updated(tmp_path).rows] == [kind]


def test_what_a_file_is_can_be_configured(tmp_path):
    write(tmp_path / "library" / "nullbild.fits", values(1))
    table = updated(tmp_path, kinds={"bias": {"file": "null*"}})
    assert [row.kind for row in table.rows] == ["bias"]


@pytest.mark.parametrize(
    "data, cards, words",
    [
        (whole(), {"IMAGETYP": "Bias"}, "a raw bias frame (IMAGETYP = 'Bias'; whole numbers"),
        (values(1), {}, "nothing says whether it is a bias, a dark or a flat"),
        (values(1), {"IMAGETYP": "Light"}, "IMAGETYP = 'Light': neither a bias nor a dark nor a flat"),
        (values(1), {"IMAGETYP": "dark", "EXPTIME": "unknown"}, "a dark without an exposure time"),
        (np.full(SHAPE, 7.0), {"IMAGETYP": "bias"}, "every pixel has the same value"),
    ],
)
def test_what_is_no_master_is_refused_with_a_sentence(tmp_path, data, cards, words):
    write(tmp_path / "library" / "a.fits", data, **cards)
    table = updated(tmp_path)
    assert not table.rows and words in table.rejected[0].reason
    (line,) = library.words(table)
    assert line.startswith("masters: ") and "a.fits is skipped: " in line and words in line


def test_own_masters_are_of_their_camera_night_and_kind_whatever_their_size(tmp_path):
    own_master(tmp_path / "library" / "a.fits", NIGHT="2023-03-11", FLKIND="bias")
    own_master(tmp_path / "library" / "b.fits", "dark", FLKIND="flatdark")
    rows = updated(tmp_path).rows
    assert [(row.kind, row.night, row.camera) for row in rows] == [
        ("bias", "2023-03-11", "cam_1x1_48x24"),
        ("flatdark", "2023-03-12", "cam_1x1_48x24"),
    ]


def test_a_results_folder_gives_its_masters_alone_and_none_that_could_not_be_made(tmp_path):
    old = tmp_path / "old"
    (old / raw.MARKER).mkdir(parents=True)
    own_master(old / "masters" / "n" / "c" / "bias.fits")
    own_master(old / "lights" / "x.fits")
    own_master(old / "y.fits")
    io.write_dropped(old / "masters" / "n" / "c" / "flat_R.fits", "master_flat", "no light")
    for place in (old, tmp_path):  # the folder itself, and one around it
        table = updated(tmp_path, place)
        assert [row.path for row in table.rows] == [str(old / "masters" / "n" / "c" / "bias.fits")]
        assert library.words(table) == []


def test_single_files_can_be_named_and_a_second_copy_counts_once(tmp_path):
    path = write(tmp_path / "x" / "a.fits", values(1), IMAGETYP="bias")
    shutil.copy(path, tmp_path / "x" / "longer_name.fits")
    assert [row.path for row in updated(tmp_path, path).rows] == [str(path)]
    both = updated(tmp_path, tmp_path / "x")
    assert len(both.rows) == 1 and library.words(both) == []


def test_a_place_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere does not exist: masters:"):
        updated(tmp_path, tmp_path / "nowhere")


def test_files_are_opened_only_when_they_are_new(tmp_path, monkeypatch):
    write(tmp_path / "library" / "a.fits", values(1), IMAGETYP="bias")
    first = updated(tmp_path)
    for name in ("opened", "load"):
        monkeypatch.setattr(raw, name, lambda path, *_, **__: pytest.fail(f"{path} was opened"))
    assert updated(tmp_path) == first == library.read(str(tmp_path / "results"))
    assert [row.band for row in updated(tmp_path, filters={"none": ["x"]}).rows] == ["none"]


def test_a_masters_name_and_identity_follow_its_content_not_its_file(tmp_path):
    path = write(tmp_path / "library" / "a.fits", values(1), IMAGETYP="flat", FILTER="R")
    (before,) = updated(tmp_path).rows
    os.utime(path, (1, 1))
    os.rename(path, path.with_name("b.fits"))
    (after,) = updated(tmp_path).rows
    assert (after.name, after.pixel_hash, after.header_hash) == (before.name, before.pixel_hash, before.header_hash)
    assert after.name == f"flat_R_2023-03-12_{after.pixel_hash[:8]}"
    path.with_name("b.fits").unlink()
    write(path, values(1), fits.ImageHDU(values(2), name="UNCERT"), IMAGETYP="flat", FILTER="R")
    assert updated(tmp_path).rows[0].pixel_hash != before.pixel_hash


def test_masters_below_the_raw_folder_are_never_taken_for_raw_frames(tmp_path):
    write(tmp_path / "raw" / "light.fits", whole(), IMAGETYP="Light")
    write(tmp_path / "raw" / "calib" / "bias.fits", values(2), IMAGETYP="Bias")
    single = write(tmp_path / "raw" / "dark.fits", values(3), IMAGETYP="Dark")
    places = [str(tmp_path / "raw" / "calib"), str(single)]
    table = frames.update(str(tmp_path / "raw"), str(tmp_path / "results"), exclude=places)
    assert [row.kind for row in table.rows] == ["light"] and not table.rejected


def test_a_master_among_raw_frames_is_rejected_with_the_place_where_it_belongs(tmp_path):
    write(tmp_path / "raw" / "a.fits", values(2), IMAGETYP="Master Bias")
    own_master(tmp_path / "raw" / "b.fits")
    table = frames.update(str(tmp_path / "raw"), str(tmp_path / "results"))
    assert not table.rows and all("under masters:" in rejected.reason for rejected in table.rejected)


@pytest.mark.parametrize(
    "place, words",
    [
        ("results/masters", "lies in the results folder"),
        ("results", "lies in the results folder"),
        ("raw", "holds the raw folder"),
        (".", "holds the raw folder"),
        ("raw/masters", ""),
        ("elsewhere", ""),
    ],
)
def test_places_among_what_is_raw_or_made_are_refused(tmp_path, monkeypatch, place, words):
    monkeypatch.chdir(tmp_path)
    if not words:
        return library.check([place], ["raw"], "results")
    with pytest.raises(ValueError, match=words):
        library.check([place], ["raw"], "results")


def test_cameras_and_filters_take_the_names_that_the_raw_frames_have(tmp_path):
    write(tmp_path / "raw" / "r.fits", whole(5), IMAGETYP="Light", FILTER="Sloan r'", OBJECT="M1")
    write(tmp_path / "library" / "a.fits", values(1), IMAGETYP="flat", FILTER="Sloan r'")
    write(tmp_path / "library" / "b.fits", values(2), IMAGETYP="flat", FILTER="Sloan r'", GAIN=200)
    (light,) = frames.update(str(tmp_path / "raw"), str(tmp_path / "results")).rows
    own_master(tmp_path / "library" / "c.fits", "flat", camera=light.camera, FILTER="Sloan r'")
    rows = library.adopted(updated(tmp_path).rows, [light])
    assert [row.camera == light.camera for row in rows] == [True, False, True]
    assert {row.filter for row in rows} == {light.filter}


# --- The form of ours -----------------------------------------------------------------------------------------------
def foreign(data, kind="bias", beside=None, **options):
    cards = options.pop("cards", {})
    return ready.foreign(data, fits.Header(cards), beside or {}, kind, **options)


def test_own_masters_stay_as_they_are(tmp_path):
    path = tmp_path / "a.fits"
    master = frame(values(1), 2.0, None, "electron", IMAGETYP="master bias")
    master.mask[3, 4] = Mask.BAD
    io.write_frame(path, master)
    packed = tmp_path / "b.fits.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for one in (path, packed):
        data, header, beside = raw.read_ready(str(one))
        found = ready.own(data, header, beside)
        assert ready.is_own(header) and found.unit == "electron"
        for part in ("data", "sigma", "mask"):
            np.testing.assert_array_equal(getattr(found, part), getattr(master, part))


@pytest.mark.parametrize("kind", [StdDevUncertainty, VarianceUncertainty, InverseVariance])
def test_ccddata_of_other_programs_keep_their_sigma_and_mask(tmp_path, kind):
    sigma = np.full(SHAPE, 3.0)
    power = {StdDevUncertainty: 1, VarianceUncertainty: 2, InverseVariance: -2}[kind]
    mask = np.zeros(SHAPE, bool)
    mask[2, 3] = True
    image = CCDData(values(1).astype(float), unit="adu", uncertainty=kind(sigma**power), mask=mask)
    image.write(tmp_path / "a.fits")
    data, header, beside = raw.read_ready(str(tmp_path / "a.fits"))
    found = ready.foreign(data, header, beside, "dark")
    np.testing.assert_allclose(found.sigma, 3.0, rtol=1e-6)
    assert found.mask[2, 3] == Mask.BAD and found.mask.sum() == Mask.BAD and found.data.dtype == np.float32


def test_without_sigma_it_is_the_local_scatter():
    found = foreign(values(1, noise=4.0, shape=(128, 128)))
    assert abs(np.median(found.sigma) / 4.0 - 1) < 0.05 and found.header["SIGMASRC"] == "empirical"


@pytest.mark.parametrize("unit, ours", [("adu", "adu"), ("ADU", "adu"), ("electron", "electron"), ("", "adu")])
def test_the_unit_is_that_of_the_file(unit, ours):
    assert foreign(values(1), cards={"BUNIT": unit}).unit == ours


def test_values_from_0_to_1_become_16_bits():
    data = values(1) / np.float32(65535)
    found = foreign(data, beside={"UNCERT": np.full(SHAPE, 2 / 65535)})
    np.testing.assert_allclose(found.data, data * 65535, rtol=1e-6)
    np.testing.assert_allclose(found.sigma, 2.0, rtol=1e-6)


def test_a_dark_current_of_less_than_1_is_not_taken_for_a_scale():
    data = values(1, level=0.3, noise=0.1)
    np.testing.assert_array_equal(foreign(data, "dark").data, data)


def test_a_flat_is_normalised_over_its_good_pixels_and_its_faults_are_flagged():
    data = values(1, 30_000.0, 50.0, (64, 64))
    data[:, :40] *= 0.8
    data[10, 10] = 900.0
    beside = {"MASK": np.zeros(data.shape, np.uint8), "UNCERT": np.full(data.shape, 50.0)}
    beside["MASK"][30:, 40:] = 1
    found = foreign(data, "flat", beside)
    good = (found.mask & Mask.UNUSABLE) == 0
    assert np.median(found.data[good]) == pytest.approx(1, abs=1e-6) and found.unit == ""
    np.testing.assert_allclose(found.sigma * (data / found.data), 50.0, rtol=1e-4)
    assert found.mask[10, 10] & Mask.LOW_FLAT and found.mask[10, 10] & Mask.BAD
    assert found.mask[40, 50] & Mask.BAD


def test_a_flat_without_light_is_refused():
    with pytest.raises(Unusable, match="no light in it"):
        foreign(values(1, -3.0), "flat")


def test_hot_pixels_of_a_dark_are_flagged():
    data = values(1, shape=(64, 64))
    data[20, 30] += 500.0
    assert foreign(data, "dark").mask[20, 30] == Mask.BAD


@pytest.mark.parametrize("card", [{"CALSTAT": "B"}, {"SUBBIAS": "ccd=<CCDData>"}, {"ZEROCOR": "T"}, {}])
def test_a_bias_that_was_subtracted_from_a_dark_is_put_back(card):
    """By the cards of other programs, or where the level shows it."""
    bias = frame(values(2), 0.3)
    current = values(1, 20.0, 3.0)
    found = foreign(current, "dark", {"UNCERT": np.full(SHAPE, 0.4)}, cards=card, reduction=Reduction(bias=bias))
    np.testing.assert_allclose(found.data, bias.data + current, rtol=1e-6)
    np.testing.assert_allclose(found.sigma, 0.5, rtol=1e-6)


@pytest.mark.parametrize("card", [{"CALSTAT": "B"}, {}])
def test_the_bias_that_is_put_back_may_be_in_electrons(card):
    """The night's own, where its gain is known; the ready dark is in ADU."""
    bias = frame(values(2) * 1.5, 0.45).with_({"FLGAIN": 1.5}, unit="electron")
    current = values(1, 20.0, 3.0)
    found = foreign(current, "dark", cards=card, reduction=Reduction(bias=bias))
    assert found.unit == "adu"
    np.testing.assert_allclose(found.data, bias.data / 1.5 + current, rtol=1e-5)


@pytest.mark.parametrize("card", [{}, {"CALSTAT": "D"}, {"ZEROCOR": "no"}])
def test_a_dark_with_its_bias_stays_as_it_is(card):
    data = values(1, 1020.0)
    found = foreign(data, "dark", cards=card, reduction=Reduction(bias=frame(values(2), 0.3)))
    np.testing.assert_array_equal(found.data, data)


def test_a_dark_without_its_bias_is_refused_where_there_is_none_to_put_back():
    with pytest.raises(Unusable, match="CALSTAT = B"):
        foreign(values(1, 20.0), "dark", cards={"CALSTAT": "B"})


RAW = fits.Header({"TRIMSEC": "[5:40,3:24]", "BIASSEC": "[1:4,1:24]"})


def test_a_master_of_the_raw_size_is_cut_as_the_frames_are():
    """By the sections of a raw frame's header: data, sigma and flags alike; its overscan is subtracted."""
    data, sigma, flags = values(1), values(2, 3.0, 0.1), np.zeros(SHAPE, np.uint8)
    data[:, :4] = 400.0
    flags[12, 20] = 1
    beside = {"UNCERT": sigma, "MASK": flags}
    found = foreign(data, "bias", beside, like=RAW, raw_shape=SHAPE)
    np.testing.assert_allclose(found.data, data[2:, 4:] - 400, rtol=1e-5)
    np.testing.assert_array_equal(found.sigma, sigma[2:, 4:])
    assert found.mask[10, 16] == Mask.BAD and found.mask.sum() == Mask.BAD


def test_a_flat_of_the_raw_size_keeps_its_level_where_it_is_cut():
    data = values(1, 30_000.0)
    data[:, :4] = 400.0
    found = foreign(data, "flat", like=RAW, raw_shape=SHAPE)
    np.testing.assert_allclose(found.data, data[2:, 4:] / np.median(data[2:, 4:]), rtol=1e-6)


def test_a_master_that_was_cut_already_is_not_cut_again():
    data = values(1, shape=(22, 36))
    assert foreign(data, like=RAW, raw_shape=SHAPE).shape == (22, 36)


def test_pixels_without_a_value_have_no_data():
    data = values(1)
    data[3, 3] = np.nan
    found = foreign(data)
    assert found.mask[3, 3] & Mask.NO_DATA and np.isfinite(found.data).all()


def test_what_was_measured_of_a_detector_comes_along_and_what_was_stated_does_not():
    known = fits.Header({"FLGAIN": 1.5, "FLRDNOIS": 6.0, "FLGAINBY": "measured", "FLRDNBY": "measured"})
    rows = {row["quantity"]: row["measured"] for row in ready.measured_rows(known)}
    assert rows == {"gain": "1.5", "read noise in adu": "4"}
    known["FLGAINBY"] = known["FLRDNBY"] = "stated"
    assert {row["measured"] for row in ready.measured_rows(known)} == {""}


# --- The workflow ---------------------------------------------------------------------------------------------------
@pytest.fixture
def bare(small_night, tmp_path):
    """A working folder with two lights of each filter, no calibration frame, and the reduced night for comparison."""
    shutil.copytree(small_night.folder / "code", tmp_path / "code")
    shutil.copy(small_night.folder / "stars.csv", tmp_path)
    (tmp_path / "raw").mkdir()
    for name in "RV":
        for light in sorted((small_night.folder / "raw").glob(f"Light_{name}_*"))[:2]:
            shutil.copy2(light, tmp_path / "raw")
    made = small_night.folder / "results" / "lights"
    stems = [path.stem for path in (tmp_path / "raw").iterdir()]
    lights = [path.relative_to(small_night.folder) for stem in stems for path in made.rglob(f"{stem}_*.fits")]
    assert len(lights) == 4
    return small_night.folder, tmp_path, lights


def with_masters(folder, night, *places):
    lines = (night / "config.yaml").read_text() + f"masters: [{', '.join(map(str, places))}]\n"
    (folder / "config.yaml").write_text(lines)


def test_a_night_without_calibration_frames_is_reduced_with_the_masters_of_another_results_folder(bare):
    """Pixels are those that the frames themselves give; the same again does nothing, nor does a new time stamp."""
    from conftest import reduced

    night, folder, lights = bare
    old = folder / "old"
    shutil.copytree(night / "results", old, ignore=shutil.ignore_patterns("aligned", "stacks", "pictures", "steps"))
    with_masters(folder, night, old)
    first = reduced(folder, *lights, code=folder / "code")
    assert first.jobs["ready_master"] == 4 and not first.jobs["master_bias"]
    for light in lights:
        ours, theirs = io.read_frame(folder / light), io.read_frame(night / light)
        for part in ("data", "sigma", "mask"):
            np.testing.assert_array_equal(getattr(ours, part), getattr(theirs, part))
    for path in (old / "masters").rglob("*.fits"):
        os.utime(path)
    assert not reduced(folder, *lights, code=folder / "code").jobs
    flat = next((old / "masters").rglob("flat_R.fits"))
    with fits.open(flat, mode="update") as hdus:
        hdus[0].data = hdus[0].data * np.float32(1.01)
    again = reduced(folder, *lights, code=folder / "code").jobs
    assert again == {"ready_master": 1, "light": 2}


def test_masters_of_another_program_serve_as_well(bare):
    """Means of raw frames in ADU, the dark without its bias: lights within the noise of those by the frames themselves."""
    from conftest import reduced

    night, folder, lights = bare

    def mean(pattern):
        images = [raw.read(str(path)) for path in sorted((night / "raw").glob(pattern))]
        return np.mean([image.astype(float) for image, _ in images], axis=0).astype(np.float32), images[0][1]

    (folder / "library").mkdir()
    bias, bias_header = mean("Bias_*")
    made = {"MasterBias": (bias, bias_header)}
    for name, pattern in (("MasterDark", "Dark_*"), ("MasterFlat_R", "Flat_R_*"), ("MasterFlat_V", "Flat_V_*")):
        data, header = mean(pattern)
        made[name] = (data - bias, header)
    made["MasterDark"][1]["CALSTAT"] = "B"
    for name, (data, header) in made.items():
        fits.PrimaryHDU(data, header).writeto(folder / "library" / f"{name}.fits")
    with_masters(folder, night, folder / "library")
    assert reduced(folder, *lights, code=folder / "code").jobs["ready_master"] == 4
    for light in lights:
        ours, theirs = io.read_frame(folder / light), io.read_frame(night / light)
        good = ((ours.mask | theirs.mask) == 0) & (theirs.sigma < np.percentile(theirs.sigma, 90))
        off = ((ours.data - theirs.data) / theirs.sigma)[good]
        assert ours.unit == "electron" and ours.header["FLFLAT"] and ours.header["FLDARK"] == 1
        assert abs(np.median(off)) < 0.1 and off.std() < 0.5
        # Sigma of such masters is their local scatter, which holds the response from pixel to pixel too.
        assert 0.99 < np.median(ours.sigma[good] / theirs.sigma[good]) < 1.1
    matches = (folder / "results" / "matches.csv").read_text()
    assert "library/MasterBias.fits" in matches and matches.count(",yes,only one") >= 12
