"""Frames unlike the others. Truth: simulated sets of good frames, and of good ones with one that something befell."""

import numpy as np
import pytest
import simulated_night as sim
from firstlight import quality
from firstlight.quality import Limits, odd_ones, sample

FLAT = Limits(None, 2.0, 0.01, 0.003, relative=True)
SHAPE = (256, 256)


class Camera:
    """Draws frames in electrons; a fixed pattern, hot pixels and a response of its own."""

    def __init__(self, seed, shape=SHAPE, read_noise=7.0):
        self.rng, self.shape, self.read_noise = np.random.default_rng(seed), shape, read_noise
        self.y, self.x = np.mgrid[: shape[0], : shape[1]] / np.array(shape)[:, None, None] - 0.5
        self.pattern = 1000 + 5 * np.sin(40 * self.x) + self.rng.normal(0, 2, shape)
        self.hot = (self.rng.random(shape) < 0.01) * self.rng.exponential(500, shape)
        self.response = (1 - 0.4 * (self.x**2 + self.y**2)) * (1 + self.rng.normal(0, 0.01, shape))

    def exposed(self, electrons):
        return self.pattern + self.rng.poisson(electrons) + self.rng.normal(0, self.read_noise, self.shape)

    def bias(self):
        return self.exposed(np.zeros(self.shape)) + self.rng.normal(0, 0.2 * self.read_noise), self.read_noise

    def whole_numbers(self):
        """A bias of little noise in ADU."""
        return np.round(self.bias()[0] / 10 + self.rng.normal(0, 0.2)), self.read_noise / 10

    def dark(self):
        data = self.exposed(60 + self.hot)
        for y, x in self.rng.integers(0, self.shape[0] - 4, (self.hot.size // 5000, 2)):
            data[y, x : x + 4] += self.rng.exponential(800)
        return data, np.sqrt(60 + self.read_noise**2)

    def flat(self, light=0.0, gradient=0.0):
        expected = (self.rng.uniform(8000, 40000) * (1 + gradient * self.x) + light) * self.response
        data, sigma = self.exposed(expected) - self.pattern, np.sqrt(expected + self.read_noise**2)
        return data / np.median(data), sigma / np.median(data)

    def sky_flat(self):
        return self.flat(gradient=self.rng.normal(0, 0.003))

    def field(self, stars=100):
        image = np.zeros(self.shape)
        flux = np.minimum(5000 * (self.rng.pareto(1.0, stars) + 1), 3e6)
        sim.paint(image, *self.rng.uniform(8, self.shape[0] - 9, (2, stars)), flux, sim.Profile("moffat", 3.0))
        return image

    def trail(self):
        return 3000 * np.exp(-0.5 * ((self.x - 0.5 * self.y) * self.shape[1] / 1.5) ** 2)


def sampled(data, sigma):
    shape = np.shape(data)
    return sample(np.float32(data), np.broadcast_to(np.float32(sigma), shape), np.zeros(shape, bool))


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("kind", ["bias", "whole_numbers", "dark", "flat", "sky_flat"])
def test_no_good_frame_is_left_out(kind, n):
    left_out = []
    for seed in range(40):
        camera = Camera(seed, (64, 64))
        frames = [sampled(*getattr(camera, kind)()) for _ in range(n)]
        left_out += odd_ones(frames, FLAT if "flat" in kind else Limits())[0].values()
    assert left_out == []


def half(frame):
    """Read to the middle only."""
    data = frame[0].copy()
    data[len(data) // 2 :] = 0
    return data, frame[1]


BEFALLEN = {
    "light leak": ("bias", lambda c: (c.bias()[0] + 12 * np.exp(-((c.x + 0.5) ** 2 + (c.y + 0.5) ** 2) / 0.02), 7.0)),
    "a dark": ("bias", lambda c: c.dark()),
    "a light": ("bias", lambda c: (c.exposed(300 + c.field()), 7.0)),
    "half read": ("bias", lambda c: half(c.bias())),
    "noise of a bad cable": ("bias", lambda c: (c.bias()[0] + c.rng.normal(0, 10, c.shape), 7.0)),
    "shutter open": ("dark", lambda c: (c.exposed(160 + c.hot + c.field()), 10.0)),
    "half read dark": ("dark", lambda c: half(c.dark())),
    "cloud": ("flat", lambda c: c.flat(gradient=0.04)),
    "trail": ("flat", lambda c: c.flat(light=c.trail())),
    "stars among dome flats": ("flat", lambda c: c.flat(light=c.field(100))),
    "half read flat": ("flat", lambda c: half(c.flat())),
}


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("what", BEFALLEN)
def test_the_one_that_something_befell_is_left_out_and_no_other(what, n):
    kind, befall = BEFALLEN[what]
    camera = Camera(n)
    frames = [sampled(*getattr(camera, kind)()) for _ in range(n)]
    frames[n // 2] = sampled(*befall(camera))
    odd, note = odd_ones(frames, FLAT if kind == "flat" else Limits())
    assert list(odd) == [n // 2] and note == ""


@pytest.mark.parametrize("n", [3, 4, 5, 10])
def test_a_level_that_drifts_leaves_none_out(n):
    camera = Camera(n)
    frames = [sampled(camera.bias()[0] + 10 * np.exp(-number / 2), 7.0) for number in range(n)]
    few = [number for number in odd_ones(frames, Limits())[0] if number > 1]
    assert few == []


def test_two_of_seven_are_both_found():
    camera = Camera(1)
    frames = [sampled(*camera.bias()) for _ in range(7)]
    frames[1], frames[6] = sampled(*camera.dark()), sampled(camera.bias()[0] + 20, 7.0)
    assert list(odd_ones(frames, Limits())[0]) == [1, 6]


@pytest.mark.parametrize("n", [1, 2])
def test_of_one_or_two_nobody_can_tell(n):
    camera = Camera(1)
    frames = [sampled(*camera.bias()), sampled(*camera.dark())][:n]
    assert odd_ones(frames, Limits()) == ({}, "")


def test_where_all_differ_all_stay_with_a_word():
    camera = Camera(1)
    frames = [sampled(*one) for one in (camera.bias(), camera.dark(), half(camera.bias()), camera.bias())]
    odd, note = odd_ones(frames, Limits())
    assert odd == {} and note.startswith("the frames differ from each other too much to tell which are right")


def test_a_reason_names_what_was_measured_and_what_is_allowed():
    camera = Camera(2)
    frames = [sampled(*camera.bias()) for _ in range(4)] + [sampled(camera.bias()[0] + 50, 7.0)]
    reason = odd_ones(frames, Limits(), "electron")[0][4]
    assert reason.startswith("level 105") and "electron, the others 99" in reason and "allowed are " in reason


@pytest.mark.parametrize("what, key", [("a light", "level"), ("noise of a bad cable", "scatter"), ("trail", "pixels")])
def test_a_limit_of_none_does_not_look(what, key):
    kind, befall = BEFALLEN[what]
    camera = Camera(3)
    frames = [sampled(*getattr(camera, kind)()) for _ in range(4)] + [sampled(*befall(camera))]
    nothing = dict.fromkeys(("level", "scatter", "structure", "pixels"))
    limits = FLAT if kind == "flat" else Limits()
    only = Limits(**(nothing | {key: getattr(limits, key)}), relative=limits.relative)
    assert list(odd_ones(frames, only)[0]) == [4]
    assert odd_ones(frames, Limits(**nothing, relative=limits.relative))[0] == {}


def test_flagged_pixels_say_nothing():
    camera = Camera(4)
    frames = [camera.bias()[0] for _ in range(4)]
    frames[2][:30, :40] = 60000
    poor = np.zeros(SHAPE, bool)
    poor[:30, :40] = True
    sigma = np.full(SHAPE, 7.0)
    assert odd_ones([sample(one, sigma, poor) for one in frames], Limits())[0] == {}
    assert list(odd_ones([sample(one, sigma, ~poor & poor) for one in frames], Limits())[0]) == [2]


@pytest.mark.parametrize("shape", [(5, 7), (40, 50), (300, 1000)])
def test_a_frame_of_any_size_has_a_sample(shape):
    one = sampled(np.full(shape, 3.0), 1.0)
    assert (one.level, one.sigma) == (3, 1)
    assert one.values.size <= 256**2 and one.values.shape <= shape


def test_stars_are_found_with_their_wings_and_nothing_else():
    camera = Camera(5)
    image = np.zeros(SHAPE)
    sim.paint(image, np.array([60.0, 180.3]), np.array([70.0, 150.6]), np.array([3e5, 2e4]), sim.Profile("moffat", 3.0))
    noise = np.full(SHAPE, 150.0)
    found = quality.stars(image + camera.rng.normal(0, 150, SHAPE), noise, np.zeros(SHAPE, bool))
    assert found[image > 50].all()
    assert found[image < 1].mean() < 0.002
