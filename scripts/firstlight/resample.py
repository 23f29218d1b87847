"""Values between pixels: data, variance, mask bits of a frame on a grid."""

from __future__ import annotations

import numpy as np

from . import kernels, turned
from .correlation import RADII, noise_cards, noise_factors
from .frame import Mask
from .kernels import KERNELS
from .positions import Positions, within
from .tiles import PIXELS, Tile, steady, tiles

__all__ = ["KERNELS", "RADII", "Positions", "Resampler", "noise_cards", "noise_factors"]
MANY = 1 << 16  # pixels that touch flagged ones, and are looked at together
_ROUGH = 128  # in working copies of a mask, beside the bits of `Mask`: a value that neighbours know nothing of


class Resampler:
    """The pixels of a frame, made ready to be read between them.

    data, sigma (or None) float32, mask and common (or None) uint8, (ny, nx); values must be finite. kernel: one of
    `KERNELS`; widest: the largest stretch (see `Positions`) that kernels are widened by, None where they are not.

    With weights w along each axis a value is sum w_y w_x data and its variance sum (w_y w_x)^2 sigma^2; taps beyond the
    edge take the edge's value. A bit is set where flagged pixels have more than 10 % of the sum of absolute weights.
    Near saturated pixels, and where taps touch flagged ones that were not replaced from their neighbours, the kernel is
    bilinear: others undershoot beside a star that is cut off, by up to 7 % of the step.
    """

    def __init__(self, data, sigma, mask, kernel: str, widest: float | None = None, common=None):
        self.shape, self.kernel, self.widest = data.shape, kernel, widest
        self.taps = kernels.count(kernel, widest)
        self.pad = self.taps // 2 + 2
        self.width = self.shape[1] + 2 * self.pad
        self.data = _padded(data, self.pad)
        self.variance = None if sigma is None else _padded(sigma, self.pad)
        if sigma is not None:
            np.square(self.variance, out=self.variance)
        self.common = None if common is None else _padded(common, self.pad)
        self.mask = self.near = None
        self._spaces, self._rooms = {}, turned.Rooms()
        bits = 0 if mask is None else int(np.bitwise_or.reduce(mask, axis=None))
        if bits:
            self.bits = [bit for bit in Mask.NAMES if bits & bit]
            self.mask = _padded(_with_rough(mask) if kernel in kernels.NEGATIVE else mask, self.pad)
            self.near = _near(self.mask, self.taps)
            self.touched = self.near > 0

    def onto(self, positions: Positions, data, sigma, mask, common=None) -> None:
        """Fill images (ny, nx) of a grid: data and sigma with what lies in its pixels, so times their areas; mask; common
        with the nearest pixel's. sigma and common are None where the frame's are. Beside the frame NaN, NO_DATA and 0."""
        lone, touched, number = [], [], 0
        for tile in tiles(positions, self.kernel, *(positions.stretch if self.widest else ())):
            images = [None if image is None else image[tile.place] for image in (data, sigma, mask, common)]
            if tile.inside is None:
                _blank(images)
                continue
            which = self._fill(tile, *images) if tile.large else np.ones(tile.shape, bool)
            if not tile.inside:
                inside = _inside(tile, self.shape)
                _blank(images, ~inside)
                which = which & inside
            for pixels in _pixels(tile, which):
                (touched if tile.large else lone).append(pixels)
                number += len(pixels[0])
            if number > MANY:
                self._fill_singly(lone, data, sigma, mask, common)
                self._flag(touched, data, sigma, mask)
                lone, touched, number = [], [], 0
        self._fill_singly(lone, data, sigma, mask, common)
        self._flag(touched, data, sigma, mask)

    def at(self, x: np.ndarray, y: np.ndarray, *stretch: np.ndarray):
        """Values, variances (or None) and mask bits at positions x, y (...), and which of these lie inside.

        stretch  of `Positions` there, two arrays, where kernels are to be widened
        """
        taps = self._taps_at(x, y, stretch, self.kernel)
        values, variances = self._values(taps)
        bits = np.zeros(x.shape, np.uint8)
        if self.near is not None:
            near = np.nonzero(self._read(self.near, taps[0][0]))
            bits[near], rough, *mended = self._flags(x[near], y[near], *(wide[near] for wide in stretch))
            for image, some in zip((values, variances), mended, strict=True):
                if image is not None:
                    image[tuple(index[rough] for index in near)] = some
        return values, variances, bits, within(x, y, self.shape)

    def _fill(self, tile: Tile, data, sigma, mask, common) -> np.ndarray:
        """Fill the images (r, c) of a tile as if no pixel were flagged; returns which touch such."""
        if tile.steady is None and self.kernel == "cubic" and not self.widest and turned.exact():
            return self._fill_turned(tile, data, sigma, mask, common)
        tap, weights_x, weights_y = self._taps(tile)
        area = self._area(tile)
        np.multiply(self._sum(self.data, tap, weights_x, weights_y), area, out=data)
        if sigma is not None:
            np.square(weights_x, out=weights_x)
            np.square(weights_y, out=weights_y)
            variance = self._sum(self.variance, tap, weights_x, weights_y)
            np.multiply(np.sqrt(variance, out=variance), area, out=sigma)
        mask[...] = 0
        if common is not None:
            common[...] = self._nearest(tile)(self.common, 0, 0)
        return np.zeros(tile.shape, bool) if self.near is None else tap(self.touched, 0, 0)

    def _fill_turned(self, tile: Tile, data, sigma, mask, common) -> np.ndarray:
        """The same where each pixel's taps have to be looked up (`turned`)."""
        import cv2

        def nearest(image, x, y):
            out = self._space("nearest", tile.shape)[0].view(np.uint8)[:, : tile.shape[1]]
            return cv2.remap(image.view(np.uint8), x, y, cv2.INTER_NEAREST, dst=out)

        place, (x, y) = self._around(tile)
        area = self._area(tile)
        np.multiply(turned.values(self.data[place], x, y, self._rooms), area, out=data)
        if sigma is not None:
            variance = turned.variances(self.variance[place], x, y, self._rooms)
            np.multiply(np.sqrt(variance, out=variance), area, out=sigma)
        mask[...] = 0
        if common is not None:
            whole = (kernels.first(axis.position, "nearest") for axis in (x, y))  # OpenCV's own rounding is to even
            common[...] = nearest(self.common[place][1:-1, 1:-1], *whole)
        if self.near is None or not self.touched[place].any():
            return np.zeros(tile.shape, bool)
        return nearest(self.touched[place], x.first, y.first).view(bool)

    def _around(self, tile: Tile):
        """The part of the padded images that a tile takes from, and its pixels along both axes, counted from the second row
        and column of that part."""
        places, axes = [], []
        for name, line, size in zip("xy", tile.lines, self.data.shape[::-1], strict=False):
            ends = np.concatenate([line.first, line.row(tile.shape[0] - 1)])
            # Pixels beside the frame may lie anywhere; what they get is not looked at.
            low, high = (
                int(min(max(end + self.pad, 1), size - 5)) for end in (np.fmin.reduce(ends), np.fmax.reduce(ends))
            )
            places.append(slice(low - 1, high + 5))
            position = line.less(low - self.pad, 0.0, self._rooms(name, *tile.shape))
            axes.append(turned.Axis(position, name, self._rooms))
        return tuple(places[::-1]), axes

    def _area(self, tile: Tile) -> np.ndarray:
        """Areas (c,) or (r, c) float32 of the pixels of a tile in pixels of the frame."""
        area = tile.lines[2]
        if np.abs(area.step).max() * tile.shape[0] < 1e-7 * area.first.min():
            return area.first.astype(np.float32)
        return area.less(0.0, 0.0, self._space("area", tile.shape)[0])

    def _fill_singly(self, pixels, data, sigma, mask, common) -> None:
        """Fill pixels here and there: lists of rows, columns, x, y, areas, and stretches where kernels are widened."""
        if not pixels:
            return
        rows, columns, x, y, area, *stretch = (np.concatenate(values) for values in zip(*pixels, strict=True))
        at = rows, columns
        values, variances, mask[at], _ = self.at(x, y, *stretch)
        data[at] = values * area
        if sigma is not None:
            sigma[at] = np.sqrt(variances) * area
        if common is not None:
            common[at] = self._read(self.common, self._place(kernels.nearest(x), kernels.nearest(y)))

    def _flag(self, pixels, data, sigma, mask) -> None:
        """Set the bits of such pixels that touch flagged ones, and their values where weights are to be positive."""
        if not pixels:
            return
        rows, columns, x, y, area, *stretch = (np.concatenate(values) for values in zip(*pixels, strict=True))
        mask[rows, columns], rough, values, variances = self._flags(x, y, *stretch)
        at, area = (rows[rough], columns[rough]), area[rough]
        data[at] = values * area
        if sigma is not None:
            sigma[at] = np.sqrt(variances) * area

    def _flags(self, x, y, *stretch):
        """Bits at positions (n,) that touch flagged pixels; the places among them where neighbours know nothing of these;
        and values, variances of positive weights there."""
        taps = self._taps_at(x, y, stretch, self.kernel)
        bits = self._bits(taps)
        rough = np.flatnonzero(self._read(self.near, taps[0][0]) >= _ROUGH)
        taps = self._taps_at(x[rough], y[rough], [wide[rough] for wide in stretch], "bilinear")
        bits[rough] = self._bits(taps)
        return bits, rough, *self._values(taps)

    def _taps_at(self, x, y, stretch, kernel: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """All taps of positions (...), from the first: their places in the padded images and their weights."""
        stretch = [np.minimum(wide, self.widest) for wide in stretch] or (None, None)
        (first_x, weights_x), (first_y, weights_y) = map(kernels.taps, (x, y), (kernel, kernel), stretch)
        place = self._place(first_x, first_y)
        return [
            (place + (m * self.width + k), wy * wx) for m, wy in enumerate(weights_y) for k, wx in enumerate(weights_x)
        ]

    def _values(self, taps):
        """Values and variances (or None) of taps."""
        values = sum(weight * self._read(self.data, place) for place, weight in taps)
        if self.variance is None:
            return values, None
        return values, sum(weight**2 * self._read(self.variance, place) for place, weight in taps)

    def _place(self, x, y) -> np.ndarray:
        """Places in the padded images of whole pixels x, y."""
        return (y + self.pad) * np.intp(self.width) + (x + self.pad)

    def _read(self, image, place) -> np.ndarray:
        """Values of a padded image."""
        return image.reshape(-1).take(place, mode="clip")

    def _taps(self, tile: Tile):
        """What reads the taps of a tile (see `_slices`), and the weights (taps, r, c) along x and along y."""
        weights = self._space("weights", tile.shape, 2 * self.taps).reshape(2, self.taps, *tile.shape)
        x, y, _, *stretch = tile.lines
        before = (self.taps - 1) // 2
        if tile.steady is not None:
            row, column = tile.steady
            for line, start, down, out in (
                (x, column + np.arange(tile.shape[1]), 0, weights[0]),
                (y, row, 1, weights[1]),
            ):
                kernels.weights_by_rows(self.kernel, line.first - (start + before), line.step - down, out)
            return self._slices(row, column, tile.shape), *weights
        t = self._space("t", tile.shape)[0]
        whole, first = [np.floor(line.first) for line in (x, y)], []
        for number, (line, start, out) in enumerate(zip((x, y), whole, weights, strict=True)):
            place = line.less(start, 0.0, t)
            if stretch:
                wide = np.clip(stretch[number].less(0.0, 0.0, np.empty_like(t)), 1.0, self.widest)
                first.append(np.floor(place - KERNELS[self.kernel][0] * wide) + 1)
                kernels.wide_weights(self.kernel, first[-1] - place, wide, out)
            else:
                first.append(kernels.first(place, self.kernel))
                place -= first[-1]
                place -= before
                kernels.weights(self.kernel, place, out)
        return self._looked_up(*first, *whole), *weights

    def _nearest(self, tile: Tile):
        """What reads the nearest pixels."""
        start = tile.nearest or (steady(tile, "nearest") if tile.inside else None)
        if start is not None:
            return self._slices(*start, tile.shape)
        whole = [np.floor(line.first) for line in tile.lines[:2]]
        places = [
            line.less(w, 0.0, np.empty(tile.shape, np.float32)) for line, w in zip(tile.lines, whole, strict=False)
        ]
        return self._looked_up(*(kernels.first(place, "nearest") for place in places), *whole)

    def _slices(self, row: int, column: int, shape):
        """What reads tap (m, k) of all pixels (r, c) of a steady tile from a padded image."""
        row, column = row + self.pad, column + self.pad
        return lambda image, m, k: image[row + m : row + m + shape[0], column + k : column + k + shape[1]]

    def _looked_up(self, first_x, first_y, whole_x, whole_y):
        """The same where each pixel has a place (r, c) of its own: first + whole."""
        index = _integers(first_y)
        index *= self.width
        index += _integers(first_x)
        index += (_integers(whole_y) + self.pad) * self.width + _integers(whole_x) + self.pad
        read = {kind: np.empty(index.shape, kind) for kind in (np.float32, np.uint8, np.bool_)}

        def tap(image, m, k):  # without "clip" numpy takes a second copy; and beside the frame there is no place
            return image.reshape(-1)[m * self.width + k :].take(index, out=read[image.dtype.type], mode="clip")

        return tap

    def _sum(self, image, tap, weights_x, weights_y) -> np.ndarray:
        """Sum over taps of weights_y weights_x times the image."""
        import cv2

        total, along = self._space("sums", weights_x.shape[1:], 2)
        for m, weight in enumerate(weights_y):
            np.multiply(tap(image, m, 0), weights_x[0], out=along)
            for k in range(1, len(weights_x)):
                cv2.accumulateProduct(tap(image, m, k), weights_x[k], along)
            if m:
                cv2.accumulateProduct(along, weight, total)
            else:
                np.multiply(along, weight, out=total)
        return total

    def _space(self, name: str, shape, number: int = 1) -> np.ndarray:
        """Room (number, r, c) float32, the same memory each time: asked for anew each page of it would have to be cleared."""
        if name not in self._spaces:
            self._spaces[name] = np.empty(number * PIXELS, np.float32)
        return self._spaces[name][: number * shape[0] * shape[1]].reshape(number, *shape)

    def _bits(self, taps) -> np.ndarray:
        """Bits (n,) of taps."""
        total = sum(np.abs(weight) for *_, weight in taps)
        shares = {bit: np.zeros(len(total), np.float32) for bit in self.bits}
        for place, weight in taps:
            flags = self._read(self.mask, place)
            some = np.flatnonzero(flags)  # one in all taps, where flagged pixels stand alone
            flags, weight = flags[some], np.abs(weight[some])
            for bit, share in shares.items():
                share[some] += np.where(flags & bit, weight, np.float32(0))
        bits = np.zeros(len(total), np.uint8)
        for bit, share in shares.items():
            bits |= np.where(share > 0.1 * total, np.uint8(bit), np.uint8(0))
        return bits


def _integers(numbers) -> np.ndarray:
    """Whole numbers as such; any where they are not finite, which lie beside the frame."""
    with np.errstate(invalid="ignore"):
        return np.asarray(numbers).astype(np.intp)


def _inside(tile: Tile, shape) -> np.ndarray:
    """Which pixels (r, c) of a tile lie on the frame."""
    x, y = (line.first + np.arange(tile.shape[0])[:, None] * line.step for line in tile.lines[:2])
    return within(x, y, shape)


def _padded(image: np.ndarray, pad: int) -> np.ndarray:
    """Copy of an image with its edge repeated `pad` times around it."""
    import cv2

    image = np.ascontiguousarray(image)
    # Memory that numpy asks for comes in large pages, which are cleared several times as quickly as OpenCV's.
    out = np.empty([size + 2 * pad for size in image.shape], image.dtype)
    return cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_REPLICATE, dst=out)


def _pixels(tile: Tile, which: np.ndarray) -> list:
    """Rows, columns, x, y, area ... of some pixels (bool) of a tile, as a list of one or none."""
    found = np.flatnonzero(np.ascontiguousarray(which))  # much quicker on what lies in order
    if not len(found):
        return []
    rows, columns = np.divmod(found, tile.shape[1])
    return [[rows + tile.rows.start, columns + tile.columns.start, *tile.at(rows, columns)]]


def _blank(images, where=...) -> None:
    """Beside the frame there is nothing in data, sigma, mask and common."""
    for image, nothing in zip(images, (np.nan, np.nan, Mask.NO_DATA, 0), strict=True):
        if image is not None:
            image[where] = nothing


def _with_rough(mask: np.ndarray) -> np.ndarray:
    """A mask with `_ROUGH` set where positive weights are called for. Beside saturated pixels too: the flank of a star that
    fills them is as steep there as its core."""
    import cv2

    values = np.arange(256, dtype=np.uint8)
    unknown = (values & Mask.UNUSABLE != 0) & (values & Mask.INTERPOLATED == 0)
    out = cv2.LUT(mask, np.where(unknown, values | np.uint8(_ROUGH), values))
    if np.bitwise_or.reduce(mask, axis=None) & Mask.SATURATED:
        saturated = (mask & np.uint8(Mask.SATURATED)) * np.uint8(_ROUGH // Mask.SATURATED)
        out |= cv2.dilate(saturated, np.ones((5, 5), np.uint8))
    return out


def _near(mask: np.ndarray, taps: int) -> np.ndarray:
    """The largest value of the `taps` x `taps` pixels from each one on."""
    import cv2

    return cv2.dilate(mask, np.ones((taps, taps), np.uint8), anchor=(0, 0))
