"""The files of a picture: the sky's coordinates in them, the linear cube, charts; and the job that makes them."""

import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from firstlight import adapt_picture, chart, io, picture, tags
from firstlight.frame import Frame, Mask
from PIL import Image
from pyavm import AVM
from scenery import coloured

SHAPE = (380, 400)  # ny, nx
SLOPES, ZEROS = (0.8, 0.0, -0.45), (0.6, 0.0, -0.3)
PARTS = {"R": ["R"], "G": ["V"], "B": ["B"]}


def header(angle=20.0, mirrored=False, shear=0.0, sip=0.0):
    """Header of an image of 3 arcsec/pix, turned by an angle."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"] if sip else ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [35.1, 57.2], [180.5, 221.3]
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.cd = np.array([[-c, -s], [-s, c]]) @ [[-1 if mirrored else 1, shear], [0, 1]] * 3 / 3600
    wcs.wcs.radesys = "ICRS"
    head = wcs.to_header()
    if sip:
        head["CTYPE1"], head["CTYPE2"] = wcs.wcs.ctype
        head["A_ORDER"], head["B_ORDER"], head["A_2_0"], head["B_0_2"] = 2, 2, sip, -sip
    return head


def said(parts=PARTS):
    heads = {name: fits.Header({"EXPTOT": 480.0, "NIGHT": "2025-11-14"}) for names in parts.values() for name in names}
    return tags.texts("NGC 869", parts, heads, "white is G2V by 80 stars of the catalogue: R 0.9, V 1, B 1.3")


def far_apart(one: WCS, other: WCS, shape=SHAPE):
    """Largest distance in pixels between where two WCS put the same places of the sky, all over an image."""
    ny, nx = shape
    pixels = np.array([[x, y] for x in (0, nx / 2, nx - 1) for y in (0, ny / 2, ny - 1)])
    return np.abs(other.all_world2pix(one.all_pix2world(pixels, 0), 0) - pixels).max()


# Coordinates in PNG files


@pytest.mark.parametrize("angle", [0, 7, 90, 135, 180, 255, 300])
@pytest.mark.parametrize("full", [False, True])
def test_a_png_is_placed_on_the_sky(tmp_path, angle, full):
    head = header(angle)
    packet = tags.packet(head, SHAPE, said(), PARTS)
    io.write_picture(tmp_path / "a.png", np.zeros((*SHAPE, 3), np.uint8), said(), packet)
    avm = AVM.from_image(str(tmp_path / "a.png"))
    assert far_apart(WCS(head), avm.to_wcs(use_full_header=full)) < 0.01
    assert list(avm.Spatial.ReferenceDimension) == [SHAPE[1], SHAPE[0]]


@pytest.mark.parametrize(
    "form", [{"mirrored": True}, {"shear": 0.01}, {"mirrored": True, "shear": 0.003, "angle": 200}]
)
def test_mirrored_and_sheared_pictures_are_placed_too(tmp_path, form):
    head = header(**form)
    io.write_picture(tmp_path / "a.png", np.zeros(SHAPE, np.uint8), {}, tags.packet(head, SHAPE, said(), PARTS))
    avm = AVM.from_image(str(tmp_path / "a.png"))
    assert far_apart(WCS(head), avm.to_wcs()) < 0.01
    assert (avm.Spatial.Scale is None) == form.get("mirrored", False), "a scale alone would mirror it back"


def test_a_hair_of_shear_needs_no_matrix(tmp_path):
    """As plate solutions have it: readers who know a scale and an angle only are right to 0.1 pixel."""
    head = header(shear=2e-5)
    io.write_picture(tmp_path / "a.png", np.zeros(SHAPE, np.uint8), {}, tags.packet(head, SHAPE, said(), PARTS))
    avm = AVM.from_image(str(tmp_path / "a.png"))
    assert avm.Spatial.CDMatrix is None and far_apart(WCS(head), avm.to_wcs()) < 0.1


def test_distortion_is_kept_for_who_reads_the_whole_header(tmp_path):
    head = header(sip=3e-5)
    io.write_picture(tmp_path / "a.png", np.zeros(SHAPE, np.uint8), {}, tags.packet(head, SHAPE, said(), PARTS))
    avm = AVM.from_image(str(tmp_path / "a.png"))
    assert far_apart(WCS(head), avm.to_wcs(use_full_header=True)) < 0.01 < far_apart(WCS(head), avm.to_wcs())


def test_a_picture_without_a_wcs_has_no_place():
    assert tags.packet(fits.Header(), SHAPE, said(), PARTS) is None


def test_a_png_says_what_it_shows_and_how_it_was_balanced(tmp_path):
    packet = tags.packet(header(), SHAPE, said(), PARTS)
    io.write_picture(tmp_path / "a.png", np.zeros(SHAPE, np.uint8), said(), packet)
    text = Image.open(tmp_path / "a.png").text
    assert text["Title"] == "NGC 869" and text["Comment"].startswith("white is G2V by 80 stars")
    assert text["Description"] == "R: R, G: V, B: B; 24 min (R 8 min, V 8 min, B 8 min); 2025-11-14"
    avm = AVM.from_image(str(tmp_path / "a.png"))
    assert avm.Title == "NGC 869" and list(avm.Spectral.Bandpass) == ["R", "V", "B"]


def test_a_tiff_carries_the_same_packet(tmp_path):
    import tifffile

    packet = tags.packet(header(), SHAPE, said(), PARTS)
    io.write_picture(tmp_path / "a.tiff", np.ones((*SHAPE, 3), np.uint16), said(), packet)
    with tifffile.TiffFile(tmp_path / "a.tiff") as file:
        page = file.pages[0]
        assert page.tags[700].value == packet and page.description.startswith("R: R")


@pytest.mark.parametrize("sip", [0.0, 2e-6])
def test_a_header_follows_rows_in_reverse(sip):
    head, ny = header(35.0, sip=sip), 300
    if sip:
        head.update({"A_1_1": 3e-6, "A_0_2": -1e-6, "B_1_1": 2e-6, "B_2_0": 4e-6})
    before, after = WCS(head), WCS(tags.overturned(fits.Header(head), ny))
    x, y = np.array([1.0, 50.0, 400.0, 210.0]), np.array([1.0, 280.0, 20.0, 300.0])
    np.testing.assert_allclose(after.all_pix2world(x, ny + 1 - y, 1), before.all_pix2world(x, y, 1), atol=1e-9)
    assert tags.mirrored(tags.overturned(fits.Header(head), ny)) and not tags.mirrored(fits.Header(head))


def test_the_wcs_follows_the_crop():
    head = header()
    cut = tags.cut_header(head, (slice(30, 200), slice(50, 350)))
    sky = WCS(head).all_pix2world([[70, 90]], 0)
    np.testing.assert_allclose(WCS(cut).all_world2pix(sky, 0), [[20, 60]], atol=1e-6)


@pytest.mark.parametrize(
    ("totals", "text"),
    [
        ({"V": 30.0}, "30 s"),
        ({"V": 480.0, "R": 420.0}, "15 min (V 8 min, R 7 min)"),
        ({"Ha": 14400.0, "OIII": 9000.0}, "6.5 h (Ha 4 h, OIII 2.5 h)"),
    ],
)
def test_exposures_in_words(totals, text):
    assert tags.exposure({name: fits.Header({"EXPTOT": total}) for name, total in totals.items()}) == text


@pytest.mark.parametrize(
    ("totals", "text"),
    [
        ({"R": 480.0, "G": 480.0, "B": 480.0}, "8 min"),
        ({"R": 480.0, "G": 480.0, "B": 420.0}, "8 min (R 8 min, G 8 min, B 7 min)"),
        ({"L": 600.0, "R": 480.0, "G": 480.0}, "18 min (L 10 min, R 8 min, G 8 min)"),
        ({"R": 480.0, "LP R": 480.0, "LP B": 480.0}, "16 min (R 8 min, LP R 8 min, LP B 8 min)"),
    ],
)
def test_planes_of_a_colour_sensor_were_exposed_at_once(totals, text):
    heads = {name: {"EXPTOT": total, "FILTER": name} for name, total in totals.items()}
    heads |= {name: head | {"FLPLANE": name[-1]} for name, head in heads.items() if name != "L"}
    assert tags.exposure({name: fits.Header(head) for name, head in heads.items()}) == text


def test_nights_in_words():
    one, several = fits.Header({"NIGHT": "2025-11-14"}), fits.Header()
    several["DATE-BEG"], several["DATE-END"] = "2025-11-15T19:00:00", "2025-11-20T03:00:00"
    assert tags.nights({"V": one}) == "2025-11-14" and tags.nights({"V": fits.Header()}) == ""
    assert tags.nights({"V": one, "R": several}) == "from 2025-11-14 to 2025-11-20"


# Charts


@pytest.mark.parametrize(("shape", "widest"), [((200, 260, 3), 1300), ((900, 1000), 1250), ((2400, 3900, 3), 2050)])
def test_charts_are_about_as_wide_as_the_picture_up_to_a_limit(shape, widest):
    drawn = chart.chart(np.full(shape, 40, np.uint8), None, "M 1", "V", "")
    assert drawn.dtype == np.uint8 and drawn.shape[2] == 3 and 700 < drawn.shape[1] < widest


def test_a_chart_shows_the_picture_itself_the_right_way_up():
    """A block near the upper left corner, pixel by pixel."""
    image = np.full((800, 900, 3), 30, np.uint8)
    image[100:120, 50:90] = (250, 20, 20)
    drawn = chart.chart(image, WCS(header()), "M 1", "V", "").astype(int)
    red = (drawn[..., 0] > 200) & (drawn[..., 1] < 60)
    rows, columns = np.nonzero(red)
    assert red.sum() > 0.9 * 20 * 40 and np.ptp(rows) == 19 and np.ptp(columns) == 39
    assert columns.min() < drawn.shape[1] / 3 and rows.min() < drawn.shape[0] / 3


def test_names_on_a_chart_are_no_formulas():
    drawn = chart.chart(np.zeros((60, 80), np.uint8), None, "$\\foo$", "R: $x_{$", "")
    assert drawn[:100].max() > 200


def test_a_chart_has_a_grid_where_the_sky_is_known():
    image = np.full((800, 900), 30, np.uint8)
    plain, gridded = (chart.chart(image, wcs, "M 1", "V", "") for wcs in (None, WCS(header())))
    middle = np.s_[300:600, 300:700]
    assert np.ptp(plain[middle]) == 0 and (gridded[middle] > 60).any()


@pytest.mark.parametrize(("angle", "mirrored"), [(0, False), (30, False), (120, True)])
def test_the_compass_points_to_north_and_east(angle, mirrored):
    wcs = WCS(header(angle, mirrored))
    north, east, scale = chart.directions(wcs, SHAPE)
    middle = np.array([(SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2])
    ra, dec = wcs.all_pix2world([middle], 0)[0]
    for vector, place in ((north, (ra, dec + 0.01)), (east, (ra + 0.01 / np.cos(np.radians(dec)), dec))):
        step = wcs.all_world2pix([place], 0)[0] - middle
        np.testing.assert_allclose(step / np.hypot(*step), vector, atol=2e-3)
    assert scale == pytest.approx(3, rel=1e-3)


def test_the_compass_stands_at_the_pole_too():
    head = header()
    head["CRVAL2"] = 89.99
    north, east, scale = chart.directions(WCS(head), SHAPE)
    assert abs(north @ east) < 0.01 and scale == pytest.approx(3, rel=0.01)


@pytest.mark.parametrize(
    ("scale", "width", "name"), [(6.0, 1000, "20'"), (0.4, 1000, "1'"), (30.0, 4000, "5°"), (0.1, 600, '10"')]
)
def test_scale_bars_have_round_lengths(scale, width, name):
    length, text = chart.bar(scale, width)
    assert text == name and 0.12 * width < length < 0.3 * width


# The job


class Named(list):
    """A job's files: a list with names."""

    def __init__(self, **files):
        super().__init__(path for value in files.values() for path in (value if isinstance(value, list) else [value]))
        self.__dict__.update(files)
        self.get = files.get


def job(folder, filters, options, catalogue=None):
    files = {"png": "a.png", "tiff": "a.tiff", "cube": "a.fits", "chart": "a_chart.png"}
    inputs = {"stacks": [str(folder / f"{name}.fits") for name in filters]}
    if catalogue:
        inputs["catalogue"] = str(catalogue)
    return SimpleNamespace(
        input=Named(**inputs),
        output=Named(**{key: str(folder / name) for key, name in files.items()}),
        params=SimpleNamespace(filters=filters, options=options),
        wildcards=SimpleNamespace(target="NGC869"),
    )


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Stacks of stars of known colours in B, V and R, of which R lacks the left edge, and their catalogue; the picture's job
    done."""
    folder = tmp_path_factory.mktemp("pictures")
    stacks, stars = coloured(SLOPES, ZEROS, np.linspace(0, 1.8, 49))
    wcs = WCS(header())
    for name, (data, mask, _) in stacks.items():
        if name == "R":
            data[:, :25], mask[:, :25] = np.nan, Mask.NO_DATA
        head = header()
        head.update({"OBJECT": "NGC 869", "FILTER": name, "EXPTOT": 480.0, "FWHM": 3.0, "NIGHT": "2025-11-14"})
        io.write_frame(folder / f"{name}.fits", Frame(data, head, None, mask, "electron"))
    sky = wcs.all_pix2world(stars.x, stars.y, 0)
    table = np.rec.fromarrays([*sky, stars.mag, stars.colour], names="ra,dec,mag,colour")
    io.write_table(folder / "stars.ecsv", table, meta={"bands": ["Gaia G", "Gaia BP-RP"]})
    done = job(folder, list("BVR"), {"mapping": None, "crop": "common", "balance": "catalogue"}, folder / "stars.ecsv")
    adapt_picture.picture_of(done)
    return folder, stars, wcs


def test_the_cube_is_linear_balanced_and_placed(night):
    """In each star the three channels differ as its colour says, G2V being white; the sky is zero."""
    folder, stars, wcs = night
    with fits.open(folder / "a.fits") as hdus:
        cube, head = hdus[0].data, hdus[0].header
    assert cube.shape == (3, 400, 375) and cube.dtype == ">f4"
    assert [head[f"CHANNEL{i}"] for i in (1, 2, 3)] == ["R", "G", "B"]
    places = WCS(head).celestial.all_world2pix(wcs.all_pix2world(np.column_stack([stars.x, stars.y]), 0), 0)
    flux = np.array(
        [[plane[int(y) - 7 : int(y) + 9, int(x) - 7 : int(x) + 9].sum() for x, y in places] for plane in cube]
    )
    for plane, slope in zip(flux, reversed(SLOPES), strict=True):
        np.testing.assert_allclose(-2.5 * np.log10(plane / flux[1]), slope * (stars.colour - 0.82), atol=0.03)
    sky, noise = np.median(cube, axis=(1, 2)), 1.48 * np.median(np.abs(cube), axis=(1, 2))
    assert (np.abs(sky) < 0.1 * noise).all()


@pytest.mark.parametrize("matrix", [True, False])
def test_the_cube_has_a_third_axis_that_counts_its_planes(matrix):
    """Also where the WCS is a CD matrix, in which an axis without a card of its own would be lost."""
    head = header()
    if matrix:
        cd = WCS(head).pixel_scale_matrix
        for key in ("PC1_1", "PC1_2", "PC2_1", "PC2_2", "CDELT1", "CDELT2"):
            head.remove(key, ignore_missing=True)
        for i, j in np.ndindex(2, 2):
            head[f"CD{i + 1}_{j + 1}"] = cd[i, j]
    stacks = {name: stack for name, stack in coloured(SLOPES, ZEROS, [0.5] * 9, size=150)[0].items()}
    cube = tags.cube_header(head, picture.linear(stacks), "M 1", {name: fits.Header() for name in stacks})
    world = WCS(cube).all_pix2world([[10, 20, 2]], 0)[0]
    np.testing.assert_allclose(world, [*WCS(header()).all_pix2world([[10, 20]], 0)[0], 3], rtol=1e-9)


def test_the_factors_stand_in_the_cube(night):
    head = fits.getheader(night[0] / "a.fits")
    found = {head[f"FILTER{i}"]: head[f"BALANCE{i}"] for i in (1, 2, 3)}
    expected = 10 ** (0.4 * (0.6 + 0.8 * 0.82))
    assert found["B"] / found["V"] == pytest.approx(expected, rel=0.01)
    assert head["BALANCED"].startswith("white is G2V by") and "FLVERS" in head


def test_the_png_agrees_with_the_stacks_wcs(night):
    """A star of the catalogue lies in the PNG, rows counted from the bottom, where its metadata say."""
    folder, stars, wcs = night
    image = np.asarray(Image.open(folder / "a.png"))
    assert image.shape == (400, 375, 3), "the edge where R has no data is cut off"
    found = AVM.from_image(str(folder / "a.png")).to_wcs()
    x, y = found.all_world2pix(*wcs.all_pix2world(stars.x, stars.y, 0), 0)
    grey = image[::-1].sum(axis=2).astype(float)
    offsets = []
    for cx, cy in zip(x, y, strict=True):
        rows, columns = np.mgrid[int(cy) - 4 : int(cy) + 6, int(cx) - 4 : int(cx) + 6]
        weight = (grey[rows, columns] - np.median(grey)).clip(0)
        offsets.append([(columns * weight).sum() / weight.sum() - cx, (rows * weight).sum() / weight.sum() - cy])
    assert np.abs(np.median(offsets, axis=0)).max() < 0.1


def overturned(night, folder, change):
    """The job on the night's stacks with their rows in reverse; `change` makes their headers."""
    for name in "BVR":
        frame = io.read_frame(night[0] / f"{name}.fits")
        reverse = Frame(frame.data[::-1].copy(), change(frame.header), None, frame.mask[::-1].copy(), "electron")
        io.write_frame(folder / f"{name}.fits", reverse)
    options = {"mapping": None, "crop": "common", "balance": "catalogue"}
    adapt_picture.picture_of(job(folder, list("BVR"), options, night[0] / "stars.ecsv"))


def test_frames_whose_first_row_is_the_upper_one_make_the_same_picture(night, tmp_path):
    """By their WCS: no picture shows the sky as in a mirror, whichever way a camera wrote its rows."""
    overturned(night, tmp_path, lambda header: tags.overturned(header, SHAPE[1]))
    assert tags.mirrored(fits.getheader(tmp_path / "V.fits", 0))
    one, other = (np.asarray(Image.open(folder / "a.png")).astype(int) for folder in (night[0], tmp_path))
    assert np.abs(one - other).max() <= 1
    assert not tags.mirrored(fits.getheader(tmp_path / "a.fits"))


def test_unsolved_frames_stand_as_their_programs_say(night, tmp_path):
    def change(header):
        return fits.Header({"FILTER": header["FILTER"], "ROWORDER": "TOP-DOWN", "EXPTOT": 480.0, "FWHM": 3.0})

    overturned(night, tmp_path, change)
    one, other = (np.asarray(Image.open(folder / "a.png")).astype(float).sum(axis=2) for folder in (night[0], tmp_path))
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.9
    assert np.corrcoef(one.ravel(), other[::-1].ravel())[0, 1] < 0.3


def test_all_files_are_there(night):
    for name, mode in (("a.png", "RGB"), ("a_chart.png", "RGB"), ("a.tiff", None)):
        assert (night[0] / name).stat().st_size > 10_000
        assert mode is None or Image.open(night[0] / name).mode == mode


def test_unsolved_stacks_make_a_chart_in_pixels(night, tmp_path):
    for name in "BVR":
        frame = io.read_frame(night[0] / f"{name}.fits")
        io.write_frame(tmp_path / f"{name}.fits", Frame(frame.data, fits.Header({"FILTER": name}), None, frame.mask))
    adapt_picture.picture_of(job(tmp_path, list("BVR"), {"crop": "common"}, night[0] / "stars.ecsv"))
    assert "CTYPE1" not in fits.getheader(tmp_path / "a.fits")
    assert "of the field" in fits.getheader(tmp_path / "a.fits")["BALANCED"]
    assert Image.open(tmp_path / "a_chart.png").size[0] > 400


def test_without_a_stack_every_file_says_so(tmp_path, capsys):
    io.write_dropped(tmp_path / "V.fits", "combine", "no frame is left")
    task = job(tmp_path, ["V"], {})
    adapt_picture.picture_of(task)
    for path in task.output:
        assert (
            np.ptp(np.asarray(Image.open(path))) > 0
            if not path.endswith(".fits")
            else io.is_dropped(io.read_header(path))
        )


def test_a_stack_that_could_not_be_made_is_left_out(night, tmp_path):
    for name in "VR":
        (tmp_path / f"{name}.fits").write_bytes((night[0] / f"{name}.fits").read_bytes())
    io.write_dropped(tmp_path / "B.fits", "combine", "no frame is left")
    adapt_picture.picture_of(job(tmp_path, list("BVR"), {"crop": "common", "mapping": {"R": "R", "G": "V", "B": "B"}}))
    assert fits.getheader(tmp_path / "a.fits")["CHANNEL2"] == "G"


def test_a_stack_without_a_good_pixel_is_left_out(night, tmp_path, capsys):
    for name in "VR":
        (tmp_path / f"{name}.fits").write_bytes((night[0] / f"{name}.fits").read_bytes())
    frame = io.read_frame(night[0] / "B.fits")
    io.write_frame(tmp_path / "B.fits", frame.with_(mask=np.full_like(frame.mask, Mask.SATURATED)))
    adapt_picture.picture_of(job(tmp_path, list("BVR"), {"crop": "common"}))
    assert "left out: B: none" in capsys.readouterr().out
    assert fits.getheader(tmp_path / "a.fits")["CHANNEL3"] == "B" and "FILTER3" not in fits.getheader(
        tmp_path / "a.fits"
    )


def test_a_preview_of_a_stack_without_a_good_pixel_says_so(night, tmp_path):
    frame = io.read_frame(night[0] / "B.fits")
    io.write_frame(tmp_path / "B.fits", frame.with_(data=np.full_like(frame.data, np.nan)))
    task = job(tmp_path, ["B"], {"crop": "all"})
    adapt_picture.preview_of(task)
    assert Image.open(task.output.png).size[1] < 200


def test_channels_that_do_not_fit_are_named_and_the_picture_is_made(night, tmp_path, capsys):
    (tmp_path / "V.fits").write_bytes((night[0] / "V.fits").read_bytes())
    adapt_picture.picture_of(job(tmp_path, ["V"], {"mapping": {"R": "Ha", "G": "V", "B": "V"}}))
    assert "channel R asks for 'Ha'" in capsys.readouterr().out
    assert fits.getdata(tmp_path / "a.fits").shape[0] == 1


def test_a_preview_is_grey_and_whole(night, tmp_path):
    (tmp_path / "R.fits").write_bytes((night[0] / "R.fits").read_bytes())
    task = job(tmp_path, ["R"], {"crop": "all", "background": "constant"})
    adapt_picture.preview_of(task)
    assert Image.open(task.output.png).mode == "L" and Image.open(task.output.png).size == (375, 400)


def test_a_luminance_stands_beside_the_cube(night, tmp_path):
    for name in "BVR":
        (tmp_path / f"{name}.fits").write_bytes((night[0] / f"{name}.fits").read_bytes())
    frame = io.read_frame(night[0] / "V.fits")
    io.write_frame(tmp_path / "L.fits", frame)
    adapt_picture.picture_of(job(tmp_path, list("BVRL"), {"crop": "all"}))
    with fits.open(tmp_path / "a.fits") as hdus:
        assert hdus[0].data.shape[0] == 3 and hdus["LUMINANCE"].data.shape == hdus[0].data.shape[1:]


def test_options_are_those_of_the_schema():
    """Every key of the section reaches a function: a job with all of its defaults runs."""
    from firstlight.config import complete, read_schema

    section = complete({"raw": ["x"]}, read_schema("config.schema.yaml"))["picture"]
    stacks = {name: (data, None, None) for name, (data, *_) in coloured(SLOPES, ZEROS, [0.5] * 9, size=150)[0].items()}
    options = {key: value for key, value in section.items() if key not in ("channels", "crop")}
    assert picture.render(stacks, json.loads("null"), **options).shape == (150, 150, 3)


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
