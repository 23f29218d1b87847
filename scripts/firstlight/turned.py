"""Cubic interpolation where a grid is turned against the frame: each pixel of the grid has taps of its own.

To look 16 of them up one by one takes longer than all that is done with them. OpenCV's bilinear `remap` reads four at once, and
the cubic kernel is bilinear interpolation of a few images. With t = 1 - u the position between the pixels 1 and 2 of 0 ... 3
and s = t u, along one axis,

    sum w_k I_k   = lerp(I, t) - s / 2 lerp(D, t),             D_k = I_(k-1) - 2 I_k + I_(k+1)
    sum w_k^2 V_k = n lerp(V, a) + m lerp(E, b),               E_k = V_(k-1) + V_(k+1)

    n = (1 + s) e,   a = t^3 (3 - 2 t) / e,   e = 1 - s - 4 s^2,       m = s^2 (1 - 2 s) / 4,   b = t^2 / (1 - 2 s)

which follows from w_0 = -t u^2 / 2, w_1 = u + w_3 - 2 w_0 and their mirror images (`kernels`). Along both axes it is the product
of both: four bilinear images each.
"""

from __future__ import annotations

from functools import cache
from math import prod

import numpy as np

_PAGE, _LINE = 1024, 16  # values
_ODD = ("four", "fourth plane")
_PLANES = ("first plane", "second plane", "third plane", "fourth plane")


@cache
def exact() -> bool:
    """Whether OpenCV reads at the positions that it is given: before version 5 it rounds them to 1/32 of a pixel."""
    import cv2

    return int(cv2.__version__.split(".")[0]) >= 5


class Rooms:
    """Memory for float32 arrays by name, the same each time: what is asked for anew has to be cleared and is in no cache.

    No two start at the same place of a page: they would push each other out. All start with a line of the cache but those of
    `_ODD`: what OpenCV splits or merges into arrays that all do it writes past the cache, from where it comes back slowly.
    """

    def __init__(self):
        self._rooms = {}

    def __call__(self, name: str, *shape: int) -> np.ndarray:
        size = prod(shape)
        if name not in self._rooms or self._rooms[name].size < size:
            self._rooms[name] = _room(size, 5 * _LINE * len(self._rooms) + (name in _ODD))
        return self._rooms[name][:size].reshape(shape)


def _room(size: int, start: int) -> np.ndarray:
    """Room for float32 values, the first at `start` in a page of the memory."""
    room = np.empty(size + 2 * _PAGE, np.float32)
    start = (start - room.ctypes.data // room.itemsize) % _PAGE
    return room[start : start + size]


class Axis:
    """Positions (r, c) float32 along one axis of an image, and what follows from them alone."""

    def __init__(self, position: np.ndarray, name: str, rooms: Rooms):
        self.position, self._room = position, lambda part: rooms(name + part, *position.shape)
        self.first = np.floor(position, out=self._room("first"))
        self._t = np.subtract(position, self.first, out=self._room("t"))
        self._square = np.square(self._t, out=self._room("square"))
        self._s = np.subtract(self._t, self._square, out=self._room("s"))
        self.half = np.multiply(self._s, np.float32(0.5), out=self._room("half"))

    def squared(self):
        """(n, position of a), (m, position of b) of squared weights."""
        import cv2

        s, n, m, a, b = self._s, *map(self._room, "nmab")
        np.multiply(s, s, out=n)
        np.subtract(1, s, out=m)
        e = cv2.scaleAdd(n, -4, m, dst=b)
        m -= s
        np.add(s, 1, out=n)
        n *= e
        np.multiply(self._t, np.float32(3), out=a)
        a = cv2.scaleAdd(self._square, -2, a, dst=a)
        a *= self._square
        a /= e
        a += self.first
        np.divide(self._square, m, out=b)
        b += self.first
        m *= self.half
        m *= self.half
        return (n, a), (m, b)


def values(image: np.ndarray, x: Axis, y: Axis, rooms: Rooms) -> np.ndarray:
    """An image (h, w) float32 at positions (r, c), counted from its second row and column; valid until the next call."""
    import cv2

    (h, w), shape = image.shape, x.position.shape
    middle, along, up, both = image[1:-1, 1:-1], *_neighbours(image, rooms)
    along = cv2.scaleAdd(image[:, 1:-1], -2, along, dst=along)
    up = cv2.scaleAdd(middle, -2, up, dst=up)
    both = np.add(along[:-2], along[2:], out=both)
    both = cv2.scaleAdd(along[1:-1], -2, both, dst=both)
    four = cv2.merge((middle, along[1:-1], up, both), dst=rooms("four", h - 2, w - 2, 4))
    four = cv2.remap(four, x.position, y.position, cv2.INTER_LINEAR, dst=rooms("read", *shape, 4))
    plain, along, up, both = cv2.split(four, [rooms(name, *shape) for name in _PLANES])
    along *= x.half
    plain -= along
    both *= x.half
    up -= both
    up *= y.half
    plain -= up
    return plain


def variances(image: np.ndarray, x: Axis, y: Axis, rooms: Rooms) -> np.ndarray:
    """The variances (r, c) of `values` from those of the pixels (h, w); valid until the next call of either."""
    import cv2

    along, up, both = _neighbours(image, rooms)
    both = np.add(along[:-2], along[2:], out=both)
    (n_x, a_x), (m_x, b_x) = x.squared()
    (n_y, a_y), (m_y, b_y) = y.squared()
    out, further, spare = (rooms(name, *x.position.shape) for name in _PLANES[:3])
    for total, weight, parts in (
        (out, n_y, ((image[1:-1, 1:-1], a_x, a_y, n_x), (along[1:-1], b_x, a_y, m_x))),
        (further, m_y, ((up, a_x, b_y, n_x), (both, b_x, b_y, m_x))),
    ):
        for number, (of, at_x, at_y, share) in enumerate(parts):
            read = cv2.remap(of, at_x, at_y, cv2.INTER_LINEAR, dst=spare if number else total)
            read *= share
        total += spare
        total *= weight
    out += further
    return out


def _neighbours(image: np.ndarray, rooms: Rooms):
    """Sums of the two pixels beside each along rows (h, w - 2), and along columns (h - 2, w - 2); and room for both."""
    h, w = image.shape
    along = np.add(image[:, :-2], image[:, 2:], out=rooms("along", h, w - 2))
    up = np.add(image[:-2, 1:-1], image[2:, 1:-1], out=rooms("up", h - 2, w - 2))
    return along, up, rooms("both", h - 2, w - 2)
