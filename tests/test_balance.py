"""White balance: stars of known colours, saturated ones, hot pixels, and catalogues that do not serve."""

import numpy as np
import pytest
from firstlight import balance, planes
from firstlight.frame import Mask
from scenery import coloured, scene

# B, V, R as of a Johnson system in Gaia's colour, and zero points of a camera.
SLOPES, ZEROS = (0.8, 0.0, -0.45), (0.6, 0.0, -0.3)
COLOURS = np.random.default_rng(4).permutation(np.linspace(-0.1, 2.0, 49))


def ready(stacks):
    return planes.planes(stacks, list(stacks), "constant")


def truth(colour):
    """Factors that make a star of a colour white, V being 1."""
    return {name: 10 ** (0.4 * (zero + slope * colour)) for name, slope, zero in zip("BVR", SLOPES, ZEROS, strict=True)}


def ratios(found):
    return {name: factor / found.factors["V"] for name, factor in found.factors.items()}


@pytest.fixture(scope="module")
def field():
    stacks, stars = coloured(SLOPES, ZEROS, COLOURS)
    return ready(stacks), stars


@pytest.mark.parametrize(("white_star", "colour"), [("G2V", 0.82), ("A0V", -0.04), ("K0V", 0.98)])
def test_a_star_of_the_white_colour_becomes_white(field, white_star, colour):
    found = balance.balanced(field[0], white_star=white_star, stars=field[1], band="Gaia BP-RP")
    for name, factor in ratios(found).items():
        assert factor == pytest.approx(truth(colour)[name], rel=0.01), name


def test_johnsons_colour_has_a_white_of_its_own(field):
    found = balance.balanced(field[0], stars=field[1], band="b-v")
    assert ratios(found)["B"] == pytest.approx(truth(0.65)["B"], rel=0.01)


def test_it_is_told_by_which_stars(field):
    found = balance.balanced(field[0], stars=field[1], band="bp_rp")
    assert found.words.startswith(f"white is G2V by {len(COLOURS)} stars of the catalogue: B 5.8")


def test_stars_without_a_colour_are_left_out(field):
    stars = field[1].copy()
    stars.colour[::2] = np.nan
    found = balance.balanced(field[0], stars=stars, band="bp_rp")
    assert f"{len(COLOURS) // 2} stars" in found.source
    assert ratios(found)["B"] == pytest.approx(truth(0.82)["B"], rel=0.01)


def test_wrong_colours_of_a_few_do_not_lead(field):
    stars = field[1].copy()
    stars.colour[:8] += 1.5
    found = balance.balanced(field[0], stars=stars, band="bp_rp")
    assert ratios(found)["B"] == pytest.approx(truth(0.82)["B"], rel=0.02)


def test_a_star_with_a_like_one_beside_it_has_no_colour(field):
    stars = np.concatenate([field[1], field[1][:20]])
    stars["x"][-20:] += 3
    stars["colour"][-20:] = 2.5
    found = balance.balanced(field[0], stars=stars, band="bp_rp")
    assert f"{len(COLOURS) - 20} stars" in found.source


def test_faint_neighbours_do_not_matter(field):
    stars = np.concatenate([field[1], field[1]])
    stars["x"][len(field[1]) :] += 1
    stars["mag"][len(field[1]) :] += 3
    assert f"{len(COLOURS)} stars" in balance.balanced(field[0], stars=stars, band="bp_rp").source


def test_seeing_that_differs_between_filters_does_not_matter():
    stacks, stars = coloured(SLOPES, ZEROS, COLOURS, fwhm=(5.0, 4.0, 3.0), beta=4.0, size=500)
    found = balance.balanced(ready(stacks), stars=stars, band="bp_rp", fwhm=5.0)
    assert ratios(found)["B"] / ratios(found)["R"] == pytest.approx(truth(0.82)["B"] / truth(0.82)["R"], rel=0.03)


@pytest.mark.parametrize(
    ("band", "colours", "why"),
    [
        ("J-K", COLOURS, "the white of G2V is not known in the catalogue's colour 'J-K'"),
        ("bp_rp", COLOURS[:4], "4 of them have a colour in the catalogue"),
        ("bp_rp", 0.1 * COLOURS + 1.6, "the stars' colours, 1.6"),
    ],
)
def test_where_the_catalogue_does_not_serve_the_field_does(field, band, colours, why):
    stars = field[1].copy()
    stars.colour = np.nan
    stars.colour[: len(colours)] = colours
    found = balance.balanced(field[0], stars=stars, band=band)
    assert found.source.startswith("white is the median of 49 stars of the field") and why in found.source


def test_without_a_catalogue_the_field_is_white_on_average(field):
    found = balance.balanced(field[0])
    assert ratios(found)["B"] == pytest.approx(truth(np.median(COLOURS))["B"], rel=0.02)
    assert found.words.startswith("white is the median of 49 stars of the field: B")


def test_the_field_on_request(field):
    assert "of the field" in balance.balanced(field[0], "stars", stars=field[1], band="bp_rp").source


def test_the_median_star_becomes_white():
    factors = balance.balanced(ready(scene((0.25, 1.0, 0.5))), "stars").factors
    assert factors["V"] == 1
    assert abs(factors["B"] / 4 - 1) < 0.03
    assert abs(factors["R"] / 2 - 1) < 0.03


def test_saturated_stars_do_not_lead():
    stacks = scene((0.5, 1.0, 1.0), peak=4000, stars=80)
    full = stacks["V"][0] > 1800
    stacks["V"] = (np.minimum(stacks["V"][0], 1800), np.where(full, np.uint8(Mask.SATURATED), np.uint8(0)), None)
    factors = balance.balanced(ready(stacks), "stars").factors
    assert abs(factors["B"] / factors["V"] / 2 - 1) < 0.03


def test_hot_pixels_do_not_lead():
    stacks = scene((0.5, 1.0, 1.0), stars=20, size=400)
    rows, columns = np.random.default_rng(8).integers(12, 388, (2, 60))
    for data, *_ in stacks.values():
        data[rows, columns] += 5000
    assert abs(balance.balanced(ready(stacks), "stars").factors["B"] / 2 - 1) < 0.03


def test_without_enough_stars_there_is_none():
    found = balance.balanced(ready(scene((0.25, 1.0, 0.5), stars=3)))
    assert found.factors == {"B": 1, "V": 1, "R": 1}
    assert found.words == "no white balance, since only 3 stars serve"


def test_none_on_request(field):
    found = balance.balanced(field[0], "none", stars=field[1], band="bp_rp")
    assert set(found.factors.values()) == {1.0} and found.words == "no white balance"


def test_given_factors_are_taken(field):
    assert balance.balanced(field[0], {"R": 2}).factors == {"B": 1, "V": 1, "R": 2}


@pytest.mark.parametrize("options", [{"how": "sun"}, {"white_star": "Q7"}])
def test_what_does_not_exist_is_refused(field, options):
    with pytest.raises(ValueError, match="must be one of"):
        balance.balanced(field[0], **options)
