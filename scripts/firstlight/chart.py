"""A picture as a chart: coordinate grid, compass, scale bar, title."""

from __future__ import annotations

import numpy as np

WIDEST = 1800  # pixels of the picture within its chart
NARROWEST = 700
# Lengths of a scale bar in arcsec, and how they are written.
BARS = [(n * unit, f"{n}{sign}") for unit, sign in ((1, '"'), (60, "'"), (3600, "°")) for n in (1, 2, 5, 10, 20, 30)]
PAPER, INK, PALE = "#101014", "#e8e8e8", "#a0a0a8"


def chart(image: np.ndarray, wcs, title: str, below: str, foot: str) -> np.ndarray:
    """The chart of a picture: uint8 (height, width, 3), about as wide as the picture, at most 2000 pixels.

    image  uint8 (ny, nx) or (ny, nx, 3), top row first
    wcs    celestial WCS of the picture in FITS rows; None: axes count pixels, without compass and scale bar
    title, below, foot  the name above the picture, a line under it, a line at the bottom
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ny, nx = image.shape[:2]
    small, (high, wide) = _resized(image)
    size = max(wide, high) / 1000  # of letters and margins, so that all charts look alike
    left, right, top, bottom = (round(part * (0.4 + 0.6 * size)) for part in (125, 35, 115, 105))
    width, height = wide + left + right, high + top + bottom
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor="none")
    canvas = FigureCanvasAgg(figure)
    place = [left / width, bottom / height, wide / width, high / height]
    letter = 7 + 5 * size
    axes = _sky_axes(figure, place, wcs, letter) if wcs is not None else _pixel_axes(figure, place, letter)
    axes.patch.set_visible(False)
    axes.set(xlim=(-0.5, nx - 0.5), ylim=(-0.5, ny - 0.5), aspect="auto")
    if wcs is not None:
        _compass(axes, wcs, (ny, nx), letter)
        _scale_bar(axes, wcs, (ny, nx), letter)
    line = 1.6 * letter * 100 / 72 / height
    head = 1 - (top / height) * 0.45
    for y, text, size, more in (
        (head, title, 1.7 * letter, {"color": INK, "weight": "bold"}),
        (head - line, below, letter, {"color": PALE}),
        (0.3 * line, foot, 0.8 * letter, {"color": PALE}),
    ):  # names from headers may hold a $, which is no formula
        figure.text(place[0], y, _fitting(text, wide, size), size=size, parse_math=False, **more)
    canvas.draw()
    paper = np.empty((height, width, 3), np.uint8)
    paper[:] = np.frombuffer(bytes.fromhex(PAPER[1:]), np.uint8)
    paper[top : top + high, left : left + wide] = small if small.ndim == 3 else small[..., None]
    return _under(paper, np.asarray(canvas.buffer_rgba()))


def _under(paper: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """A picture (height, width, 3) under a drawing with transparency (height, width, 4), both uint8. The picture is put
    there as it is: drawn by matplotlib it would be resampled, which takes ten times as long as all the rest."""
    covered = drawn[..., 3] > 0
    share = drawn[covered][:, 3:] / np.float32(255)
    paper[covered] = (drawn[covered][:, :3] * share + paper[covered] * (1 - share) + np.float32(0.5)).astype(np.uint8)
    return paper


def _resized(image: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """The picture averaged over squares, or its pixels repeated, so that it is about 1000 to 1800 pixels wide; and the
    size (height, width)."""
    ny, nx = image.shape[:2]
    step = -(-max(ny, nx) // WIDEST)
    if step > 1:
        ny, nx = ny // step, nx // step
        squares = image[: ny * step, : nx * step].reshape(ny, step, nx, step, *image.shape[2:])
        image = (squares.mean(axis=(1, 3), dtype=np.float32) + 0.5).astype(np.uint8)
    elif (times := NARROWEST // max(ny, nx) + 1) > 1:
        image = image.repeat(times, axis=0).repeat(times, axis=1)
    return image, image.shape[:2]


def _fitting(text: str, width: int, letter: float) -> str:
    """A text cut to what fits into a width in pixels; a letter is about 0.62 as wide as high."""
    most = int(width / (0.62 * letter * 100 / 72))
    return text if len(text) <= most else text[: most - 3] + "..."


def _sky_axes(figure, place: list[float], wcs, letter: float):
    from astropy.visualization.wcsaxes import WCSAxes

    axes = WCSAxes(figure, place, wcs=wcs)
    figure.add_axes(axes)
    axes.coords.grid(color="white", alpha=0.25, linestyle="solid", linewidth=0.7)
    for coordinate, name in zip(axes.coords, ("right ascension", "declination"), strict=True):
        coordinate.set_axislabel(name, color=PALE, size=letter, minpad=0.6)
        coordinate.set_ticklabel(color=PALE, size=0.9 * letter, exclude_overlapping=True)
        coordinate.set_ticks(color=PALE, number=6)
    axes.coords.frame.set_color(PALE)
    return axes


def _pixel_axes(figure, place: list[float], letter: float):
    axes = figure.add_axes(place)
    axes.tick_params(colors=PALE, labelsize=0.9 * letter)
    axes.set_xlabel("x [pixels], not solved", color=PALE, size=letter)
    axes.set_ylabel("y [pixels]", color=PALE, size=letter)
    for spine in axes.spines.values():
        spine.set_color(PALE)
    return axes


def directions(wcs, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, float]:
    """Unit vectors (x, y) in pixels towards north and east in the middle of an image (ny, nx), and arcsec per pixel."""
    x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    ra, dec = wcs.all_pix2world([[x, y]], 0)[0]
    step = 1e-4 if dec < 89.9 else -1e-4
    points = [[ra, dec], [ra, dec + step], [ra + step / np.cos(np.radians(dec)), dec]]
    centre, north, east = wcs.all_world2pix(points, 0)
    north, east = (north - centre) / step, (east - centre) / step
    return (*(vector / np.hypot(*vector) for vector in (north, east)), 3600 / float(np.hypot(*north)))


def _outlined(width: float) -> list:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground="black", alpha=0.7)]


def _compass(axes, wcs, shape: tuple[int, int], letter: float) -> None:
    """Arrows to north and east in the lower left corner."""
    north, east, _ = directions(wcs, shape)
    length = 0.055 * min(shape)
    ends = np.array([[0, 0], 1.5 * north, 1.5 * east]) * length
    corner = np.array([0.03, 0.03]) * min(shape) - ends.min(axis=0)
    for vector, name in ((north, "N"), (east, "E")):
        axes.annotate("", corner + length * vector, corner, annotation_clip=False,
                      arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.5, "shrinkA": 0, "shrinkB": 0,
                                  "path_effects": _outlined(3)})  # fmt: skip
        axes.text(*(corner + 1.3 * length * vector), name, color=INK, size=letter, ha="center", va="center",
                  path_effects=_outlined(2.5))  # fmt: skip


def bar(scale: float, width: int) -> tuple[float, str]:
    """Length in pixels and name of a scale bar: the round angle nearest to a fifth of an image's width.

    scale  arcsec per pixel
    """
    angle, name = min(BARS, key=lambda choice: abs(np.log(choice[0] / (0.2 * width * scale))))
    return angle / scale, name


def _scale_bar(axes, wcs, shape: tuple[int, int], letter: float) -> None:
    """A line of a round length in the lower right corner."""
    length, name = bar(directions(wcs, shape)[2], shape[1])
    y, right = 0.04 * min(shape), shape[1] - 0.04 * min(shape)
    axes.plot(
        [right - length, right], [y, y], color=INK, linewidth=2, path_effects=_outlined(4), scalex=False, scaley=False
    )
    axes.text(right - length / 2, 1.35 * y, name, color=INK, size=letter, ha="center", va="bottom",
              path_effects=_outlined(2.5))  # fmt: skip
