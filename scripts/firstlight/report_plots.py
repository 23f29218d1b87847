"""Plots of the report as SVG: colours and letters come from the page's style, so that they follow light and dark.

Series are told apart by colour (Okabe & Ito 2008, Color Universal Design) and by marker; what was left out bears a cross.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from markupsafe import Markup, escape

WIDE, HIGH = 400, 210
LEFT, RIGHT, TOP, BOTTOM = 58, 10, 12, 40
MANY = 400  # frames of a target, above which they are drawn as one path each filter, without their names
# Outlines of markers about 0, 0, by their number; the page's style has as many colours (.s0, .s1 ...).
MARKERS = (
    "m-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",  # circle
    "m-3.6,-3.6h7.2v7.2h-7.2z",  # square
    "m0,-4.6l4.4,8h-8.8z",  # triangle
    "m0,-5l4.2,5l-4.2,5l-4.2,-5z",  # diamond
    "m0,4.6l4.4,-8h-8.8z",  # triangle on its tip
    "m-1.5,-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",  # plus
    "m-2.2,-4.4h4.4l2.2,4.4l-2.2,4.4h-4.4l-2.2,-4.4z",  # hexagon
)
LEAST = {"elong": 0.2, "transparency": 0.2, "wcsrms": 0.02}  # span of a plot: within less, differences mean nothing
CROSS = "m-5,-5l10,10m0,-10l-10,10"
# Where a filter's usual colour is known it has it: blue, green, red, all light.
USUAL = {"b": 0, "blue": 0, "v": 1, "g": 1, "green": 1, "r": 2, "red": 2, "l": 3, "lum": 3, "clear": 3, "none": 3,
         "ha": 4, "oiii": 5, "sii": 6, "i": 6, "u": 5, "z": 4}  # fmt: skip


def styles(filters) -> dict[str, int]:
    """A number of a colour and marker for each filter: the usual one, else the first that is free."""
    out: dict[str, int] = {}
    for name in filters:
        wanted = USUAL.get(name.lower().strip("'"), 0)
        free = [number for number in range(len(MARKERS)) if number not in out.values()]
        out[name] = wanted if wanted in free else (free or [len(out) % len(MARKERS)])[0]
    return out


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round values from low to high, at most about `most`; steps of 1, 2, 5 times a power of ten."""
    span = high - low
    if not span > 0:
        return [low]
    rough = span / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def label(value: float) -> str:
    """A tick in as few signs as tell it."""
    if value == 0:
        return "0"
    text = f"{value:.10g}" if 1e-3 <= abs(value) < 1e5 else f"{value:.2g}"
    return text.replace("-", "\u2212")


class Axes:
    """Scales of a plot: values to positions in the SVG."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], wide: int = WIDE, high: int = HIGH):
        self.x, self.y, self.wide, self.high = x, y, wide, high

    def at(self, x: float, y: float) -> tuple[float, float]:
        (x0, x1), (y0, y1) = self.x, self.y
        right, down = self.wide - RIGHT, self.high - BOTTOM
        return (
            round(LEFT + (x - x0) / ((x1 - x0) or 1) * (right - LEFT), 1),
            round(down - (y - y0) / ((y1 - y0) or 1) * (down - TOP), 1),
        )


def widened(values, part: float = 0.07, least: float = 0.0) -> tuple[float, float]:
    """Limits around values with some room, `least` apart; around a single value a tenth of it."""
    low, high = min(values), max(values)
    beside = max(least - (high - low), 0.0) / 2
    low, high = low - beside, high + beside
    room = (high - low) * part or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _grid(axes: Axes, across: list[tuple[float, str]], name: str, below: str) -> list[str]:
    """Frame, ticks and names of axes."""
    right, down = axes.wide - RIGHT, axes.high - BOTTOM
    out = []
    for value in ticks(*axes.y):
        _, y = axes.at(axes.x[0], value)
        out.append(
            f'<path class="rule" d="M{LEFT},{y}H{right}"/><text x="{LEFT - 6}" y="{y + 4}" class="end">{label(value)}</text>'
        )
    for value, text in across:
        x, _ = axes.at(value, axes.y[0])
        out.append(
            f'<path class="tick" d="M{x},{down}v4"/><text x="{x}" y="{down + 17}" class="mid">{escape(text)}</text>'
        )
    out.append(f'<path class="axis" d="M{LEFT},{TOP}V{down}H{right}"/>')
    out.append(f'<text x="{(LEFT + right) / 2}" y="{axes.high - 5}" class="mid name">{escape(below)}</text>')
    middle = (TOP + down) / 2
    out.append(f'<text transform="translate(13,{middle}) rotate(-90)" class="mid name">{escape(name)}</text>')
    return out


def _svg(parts: list[str], axes: Axes, told: str) -> Markup:
    head = f'<svg viewBox="0 0 {axes.wide} {axes.high}" role="img" aria-label="{escape(told)}">'
    return Markup(head + "".join(parts) + "</svg>")


# --- over the night ---------------------------------------------------------------------------------------------------
class Night:
    """The horizontal axis of all plots of a target: UTC within one night, else frames one after another by night."""

    def __init__(self, frames: list[dict]):
        timed = sorted(one["time"] for one in frames if one["time"])
        self.by_time = bool(timed) and len(timed) == len(frames) and timed[-1] - timed[0] <= timedelta(hours=24)
        if self.by_time:
            self.start = timed[0]
            self.limits = widened([0.0, max((timed[-1] - self.start).total_seconds() / 60, 1.0)], 0.04)
            self.name = "UTC"
            self.ticks = self._clock()
            return
        late = datetime.max
        order = sorted(frames, key=lambda one: (one["night"], one["time"] or late, one["name"]))
        self.order = {one["name"]: number for number, one in enumerate(order, 1)}
        self.limits = widened([1, max(len(order), 2)], 0.04)
        firsts = {}
        for one in order:
            firsts.setdefault(one["night"], self.order[one["name"]])
        several = 1 < len(firsts) <= 4
        self.name = "frames in order of time" + (", by night" if several else "")
        numbers = [(value, label(value)) for value in ticks(1, len(order)) if value == int(value) and value]
        self.ticks = [(first, night) for night, first in firsts.items()] if several else numbers

    def place(self, one: dict) -> float:
        return (one["time"] - self.start).total_seconds() / 60 if self.by_time else self.order[one["name"]]

    def _clock(self) -> list[tuple[float, str]]:
        """Full minutes of the clock, four to six of them."""
        span = self.limits[1] - self.limits[0]
        step = next((m for m in (1, 2, 5, 10, 15, 30, 60, 120, 180, 240, 360) if span / m <= 6), 360)
        day = self.start.replace(hour=0, minute=0, second=0, microsecond=0)
        begin = (self.start - day).total_seconds() / 60
        first = math.ceil((begin + self.limits[0]) / step)
        last = math.floor((begin + self.limits[1]) / step)
        return [(n * step - begin, f"{day + timedelta(minutes=n * step):%H:%M}") for n in range(first, last + 1)]


def over_night(frames: list[dict], measure: tuple, night: Night, style: dict[str, int]) -> Markup | None:
    """One measure of all frames of a target; None where no frame has it. Frames left out bear a cross; those without a
    value stand as a cross at the lower edge."""
    column, name, unit = measure
    values = [one[column] for one in frames if one[column] is not None]
    if not values:
        return None
    axes = Axes(night.limits, widened(values, least=LEAST.get(column, 0.0)))
    parts = _grid(axes, night.ticks, name + (f" [{unit}]" if unit else ""), night.name)
    draw = _merged if len(frames) > MANY else _single
    parts += draw(frames, column, night, style, axes)
    return _svg(parts, axes, _words(frames, values, measure))


def _spot(one: dict, column: str, night: Night, axes: Axes) -> tuple[float, float]:
    value = one[column]
    return axes.at(night.place(one), axes.y[0] if value is None else value)


def _single(frames, column, night, style, axes) -> list[str]:
    out = []
    for one in frames:
        if one[column] is None and not one["left_out"]:
            continue
        x, y = _spot(one, column, night, axes)
        number = style[one["filter"]]
        value = "not measured" if one[column] is None else label(float(f"{one[column]:.4g}"))
        title = f"{one['name']}, {one['filter']}: {value}" + (f"; {one['note']}" if one["note"] else "")
        mark = "" if one[column] is None else f'<path class="s{number}" d="M{x},{y}{MARKERS[number]}"/>'
        mark += f'<path class="cross" d="M{x},{y}{CROSS}"/>' if one["left_out"] else ""
        out.append(f"<g>{mark}<title>{escape(title)}</title></g>")
    return out


def _merged(frames, column, night, style, axes) -> list[str]:
    paths, crosses = {}, []
    for one in frames:
        x, y = _spot(one, column, night, axes)
        if one[column] is not None:
            number = style[one["filter"]]
            paths.setdefault(number, []).append(f"M{x},{y}{MARKERS[number]}")
        if one["left_out"]:
            crosses.append(f"M{x},{y}{CROSS}")
    out = [f'<path class="s{number} fine" d="{"".join(path)}"/>' for number, path in paths.items()]
    return out + ([f'<path class="cross" d="{"".join(crosses)}"/>'] if crosses else [])


def _words(frames, values, measure) -> str:
    """What a plot shows, for who does not see it."""
    _, name, unit = measure
    middle = sorted(values)[len(values) // 2]
    left_out = sum(one["left_out"] for one in frames)
    text = (
        f"{name} of {len(values)} frames: {min(values):.4g} to {max(values):.4g}, median {middle:.4g} {unit}".rstrip()
    )
    return text + (f"; {left_out} left out" if left_out else "")


def key(style: dict[str, int], crossed: bool) -> Markup:
    """The legend: marker and name of each filter, and the cross where frames were left out."""
    entries = [
        f'<li><svg viewBox="-7 -7 14 14" aria-hidden="true"><path class="s{number}" d="M0,0{MARKERS[number]}"/></svg>'
        f"{escape(name)}</li>"
        for name, number in style.items()
    ]
    if crossed:
        cross = f'<svg viewBox="-7 -7 14 14" aria-hidden="true"><path class="cross" d="M0,0{CROSS}"/></svg>'
        entries.append(f"<li>{cross}left out</li>")
    return Markup(f'<ul class="key">{"".join(entries)}</ul>')


# --- on the sky -------------------------------------------------------------------------------------------------------
def footprints(outlines: list[dict], stars, centre: str, told: str) -> Markup | None:
    """Outlines on the sky about a centre: each has `corners` (xi, eta) in arcmin east and north, `style` (a class of the
    page) and `name`. stars: (xi, eta, size) of bright stars. East is left."""
    points = [corner for one in outlines for corner in one["corners"]]
    if not points:
        return None
    xs, ys = [x for x, _ in points], [y for _, y in points]
    middle_x, middle_y = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
    half = 0.54 * max(max(xs) - min(xs), max(ys) - min(ys)) or 1.0
    wide = 420
    axes = Axes(
        (middle_x + half, middle_x - half), (middle_y - half, middle_y + half), wide, wide - LEFT - RIGHT + TOP + BOTTOM
    )
    across = [(value, label(value)) for value in ticks(middle_x - half, middle_x + half)]
    parts = _grid(axes, across, "north [arcmin]", f"east [arcmin] of {centre}")
    for xi, eta, size in stars:
        if abs(xi - middle_x) < half and abs(eta - middle_y) < half:
            x, y = axes.at(xi, eta)
            parts.append(f'<circle class="star" cx="{x}" cy="{y}" r="{size:.1f}"/>')
    for one in outlines:
        spots = "L".join(f"{x},{y}" for x, y in (axes.at(*corner) for corner in one["corners"]))
        parts.append(f'<path class="outline {one["style"]}" d="M{spots}z"><title>{escape(one["name"])}</title></path>')
    return _svg(parts, axes, told)
