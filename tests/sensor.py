"""A simulated sensor of known bias, dark current, response and noise, and the masters that the chain makes of its frames."""

import numpy as np
from astropy.io import fits
from firstlight import masters, reduce
from firstlight.reduce import Reduction

GAIN, READ_NOISE, EXPOSURE = 0.8, 5.0, 60.0
COMBINATION = {"method": "median", "clip": "sigclip", "low": 4.0, "high": 4.0}


class Detector:
    """A sensor of known pixels; frames come as raw ADU, rounded, with Poisson and read noise."""

    def __init__(self, shape=(150, 200), seed=1, dark_rate=0.5, gain=GAIN, read_noise=READ_NOISE):
        self.gain, self.read_noise = gain, read_noise
        self.rng = np.random.default_rng(seed)
        self.shape = shape
        self.bias = 500 + self.rng.normal(0, 3, shape)  # ADU
        self.dark_rate = self.rng.uniform(0.5, 1.5, shape) * dark_rate  # e-/s
        self.response = self.rng.normal(1, 0.03, shape)

    def raw(self, light=0.0, exposure=EXPOSURE, extra=0.0, dtype=np.uint16, **cards):
        """A raw frame of some light (e-, at response 1) as (data, header); extra electrons where there are hits."""
        electrons = self.rng.poisson(np.maximum(light * self.response + self.dark_rate * exposure, 0)).astype(float)
        adu = (electrons + extra + self.rng.normal(0, self.read_noise, self.shape)) / self.gain + self.bias
        header = fits.Header(
            {"EGAIN": self.gain, "RDNOISE": self.read_noise, "EXPTIME": exposure, "INSTRUME": "cam", **cards}
        )
        data = np.clip(np.round(adu), 0, 65535)
        return data.astype(dtype), header

    def frame(self, *args, **cards):
        data, header = self.raw(*args, **cards)
        return reduce.prepare(data, header, {"FLFRAME": "one"})

    def masters(self, n, dark_exposure=EXPOSURE, flat_light=20000.0):
        """Master bias, dark and flat of n frames each, as the chain makes them."""

        def reduced(kind, count, reduction, *args):
            return (reduce.reduce(self.frame(*args), reduction) for _ in range(count))

        bias = masters.master_bias(reduced("bias", n, Reduction("bias"), 0.0, 0.0), n, **COMBINATION)
        dark = masters.master_dark(
            reduced("dark", n, Reduction("dark", bias=bias), 0.0, dark_exposure), n, **COMBINATION
        )
        for_flats = Reduction("flat", bias=bias, dark=dark)
        flat = masters.master_flat(reduced("flat", n, for_flats, flat_light, 2.0), n, **COMBINATION)
        return {"bias": bias, "dark": dark, "flat": flat}
