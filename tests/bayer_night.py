"""A simulated night of a one-shot-colour camera: the simulation's R, G and B seen through a mosaic.

    python tests/bayer_night.py FOLDER [--pattern RGGB] [--rows TOP-DOWN]

Each pixel sees the sky in the colour of its site; bias, dark and cosmic rays know nothing of colours. The frames have no
FILTER: what they are, BAYERPAT says.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import simulated_night
from astropy.io import fits

LETTERS = ((0, 0), (0, 1), (1, 0), (1, 1))  # sites (y, x) in the order of a pattern's letters
BANDS = {"R": "R", "G": "V", "B": "B"}  # of the simulation
LAMP = {"R": 0.7, "G": 1.0, "B": 0.5}  # level of flats: a lamp is not white
NIGHT = simulated_night.Night(
    size=512,
    field=0.85,
    filters={name: replace(simulated_night.FILTERS[name], rotation=0.0) for name in ("R", "V", "B")},
    lights=6,
    bias=7,
    darks=4,
    flats=5,
    seeing=(4.2, 5.2),
    trail=0,
    cloud=0,
    starless=0,
    other_target=0,
    cosmic_rays=60,
    dither=24.0,
)


@dataclass
class Mosaic:
    """A night and how its sensor's colours lie: `pattern` of the first two rows of the sky's image, south up to north."""

    night: simulated_night.Night
    pattern: str

    def __post_init__(self):
        self.simulation = simulated_night.Simulation(self.night)
        self.response = self.woven({letter: self.simulation.response[band] for letter, band in BANDS.items()})
        for site in LETTERS:
            self.at(self.response, site)[...] /= np.median(self.at(self.response, site))

    @staticmethod
    def at(image: np.ndarray, site) -> np.ndarray:
        """A site of an image (ny, nx), even in both, as a view."""
        return image[site[0] :: 2, site[1] :: 2]

    def sites(self, letter: str) -> list[tuple[int, int]]:
        """The sites of a colour."""
        return [site for site, one in zip(LETTERS, self.pattern, strict=True) if one == letter]

    def woven(self, images: dict[str, np.ndarray]) -> np.ndarray:
        """One image of which each pixel is taken from the image of its colour."""
        out = np.empty(self.night.shape)
        for site, letter in zip(LETTERS, self.pattern, strict=True):
            self.at(out, site)[...] = self.at(images[letter], site)
        return out

    def lights(self) -> list:
        """The plan's lights in one band: the frames of the night."""
        return [light for light in self.simulation.lights if light["filter"] == "V"]

    def signal(self, light) -> dict[str, np.ndarray]:
        """Expected electrons of a light in each colour before the response, each as if all pixels were of it."""
        images = {}
        for letter, band in BANDS.items():
            sky = light["sky"] * self.night.filters[band].sky / self.night.filters["V"].sky
            one = dict(zip(light.colnames, light, strict=True)) | {"filter": band, "sky": sky}
            images[letter] = self.simulation.signal(one)
        return images

    def plane(self, image: np.ndarray, letter: str) -> np.ndarray:
        """A colour's plane of an image: its site, or the mean of its two."""
        return np.mean([self.at(image, site) for site in self.sites(letter)], axis=0)

    def flat(self) -> np.ndarray:
        """Expected electrons of a flat, (ny, nx), of level 1 where the response is 1 in green."""
        lamp = self.woven({letter: np.full(self.night.shape, level) for letter, level in LAMP.items()})
        return lamp * self.response


def make_bayer_night(
    folder: Path, night: simulated_night.Night = NIGHT, pattern: str = "RGGB", rows: str = "BOTTOM-UP", **cards
) -> Mosaic:
    """Write the raw frames into a folder, which is made.

    pattern  of the image as it stands on the sky, its first row at the bottom
    rows     TOP-DOWN: files begin with the upper row; the card BAYERPAT is for the first row of the file in any case
    cards    of all headers
    """
    folder.mkdir(parents=True, exist_ok=True)
    mosaic = Mosaic(night, pattern)
    simulation, turned = mosaic.simulation, rows == "TOP-DOWN"
    stored = pattern[2:] + pattern[:2] if turned else pattern  # of an even number of rows
    stated = {"BAYERPAT": stored, "ROWORDER": rows, "XBAYROFF": 0, "YBAYROFF": 0} | cards

    def write(file, header, electrons, exposure):
        rays = simulation.rays(file, exposure) if exposure else None
        counts = simulation.read_out(file, electrons, rays)
        header.update({key: value for key, value in stated.items() if value is not None})
        fits.PrimaryHDU(counts[::-1] if turned else counts, header).writeto(folder / file, overwrite=True)

    from datetime import timedelta

    def header_of(file, kind, exposure, hours, number):
        time = simulated_night._time(night, timedelta(hours=hours), number, exposure + 5)
        return simulated_night.make_header(night, file, kind, exposure, time)

    for number in range(1, night.flats + 1):
        file = f"Flat_{number:03d}.fits"
        header = header_of(file, "Flat Field", night.flat_exposure, 17, number)
        write(
            file, header, night.flat_level * mosaic.flat() + simulation.dark * night.flat_exposure, night.flat_exposure
        )
    for number in range(1, night.bias + 1):
        file = f"Bias_{number:03d}.fits"
        write(file, header_of(file, "Bias Frame", 0, 19, number), None, 0)
    for number in range(1, night.darks + 1):
        file = f"Dark_{number:03d}.fits"
        header = header_of(file, "Dark Frame", night.exposure, 20, number)
        write(file, header, simulation.dark * night.exposure, night.exposure)
    for light in mosaic.lights():
        header = simulated_night.light_header(night, light)
        del header["INSFILTE"]
        electrons = mosaic.woven(mosaic.signal(light)) * mosaic.response + simulation.dark * night.exposure
        write(str(light["file"]), header, electrons, night.exposure)
    return mosaic


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pattern", default="RGGB")
    parser.add_argument("--rows", default="BOTTOM-UP", choices=("BOTTOM-UP", "TOP-DOWN"))
    given = parser.parse_args()
    make_bayer_night(given.folder, pattern=given.pattern, rows=given.rows)


if __name__ == "__main__":
    main()
