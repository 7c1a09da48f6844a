"""Curves as pictures: SVG files that stand alone, drawn without a library, with their data as CSV.

A picture is fixed in size and free of scripts, for papers and for viewers that know no HTML; figures of
experiments are in charts.py.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal
from xml.sax.saxutils import escape

from emulator.report.runs import csv_text

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 76, 20, 46, 58
"""The picture and the margins around its frame [px]."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Told apart by colour-blind eyes. Source: Okabe and Ito, Color Universal Design, 2008."""

Scale = Literal["linear", "log"]


@dataclass(frozen=True)
class Curve:
    """Points [.., 2] of one name, joined or not; on a logarithmic axis only those above 0 are seen."""

    name: str
    points: Sequence[tuple[float, float]]
    drawn: Literal["line", "dashes", "dots"] = "line"


@dataclass(frozen=True)
class Axis:
    """What stands along an axis, and how."""

    title: str
    scale: Scale = "linear"

    def place(self, value: float) -> float:
        """Where a value lies along the axis, before it is stretched to the frame."""
        return math.log10(value) if self.scale == "log" else value

    def shows(self, value: float) -> bool:
        """Whether a value has a place at all."""
        return math.isfinite(value) and (self.scale == "linear" or value > 0.0)


@dataclass(frozen=True)
class Picture:
    """A picture with the numbers it shows: NAME.svg and NAME.csv."""

    name: str
    title: str
    x: Axis
    y: Axis
    curves: Sequence[Curve]
    head: Sequence[str]
    rows: Sequence[Sequence[object]]

    def files(self) -> dict[str, bytes]:
        """Both files by name."""
        return {
            f"{self.name}.svg": svg_text(self).encode(),
            f"{self.name}.csv": csv_text(self.head, self.rows).encode(),
        }


def svg_text(picture: Picture) -> str:
    """The picture as SVG. Law: same picture, same text."""
    frame = _Frame.around(picture)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 26, picture.title, 'font-size="14"'),
        *_axes(picture, frame),
        *(
            _curve(curve, COLOURS[index % len(COLOURS)], picture, frame)
            for index, curve in enumerate(picture.curves)
        ),
        *_legend(picture, frame),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


@dataclass(frozen=True)
class _Frame:
    """The least and the greatest place along both axes."""

    x: tuple[float, float]
    y: tuple[float, float]

    @classmethod
    def around(cls, picture: Picture) -> "_Frame":
        """Room for all points, with a little air above and below."""
        points = [point for curve in picture.curves for point in _seen(curve, picture)]
        x_places = [picture.x.place(x) for x, _ in points]
        y_places = [picture.y.place(y) for _, y in points]
        low, high = _span(y_places)
        air = 0.04 * (high - low)
        return cls(_span(x_places), (low - air, high + air))

    def left_px(self, place: float) -> float:
        """Pixels from the left edge of the picture."""
        return LEFT + (WIDTH - LEFT - RIGHT) * (place - self.x[0]) / (self.x[1] - self.x[0])

    def top_px(self, place: float) -> float:
        """Pixels from its upper edge."""
        share = (place - self.y[0]) / (self.y[1] - self.y[0])
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share


def ticks(low: float, high: float, scale: Scale) -> list[tuple[float, str]]:
    """Round places between two places of an axis, ascending, with what to write there.

    Linear: multiples of 1, 2 or 5 times a power of ten, five to ten of them. Logarithmic: powers of
    ten; also their 2- and 5-fold where there are fewer than four.
    """
    if scale == "linear":
        step = _round_step((high - low) / 5.0)
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        return [(i * step, f"{i * step:.10g}") for i in range(first, last + 1)]
    decades = range(math.floor(low), math.ceil(high) + 1)
    factors = (1, 2, 5) if high - low < 3.0 else (1,)
    marks = [(decade + math.log10(f), f * 10.0**decade) for decade in decades for f in factors]
    return [
        (place, f"{value:.10g}") for place, value in marks if low - 1e-9 <= place <= high + 1e-9
    ]


def _round_step(about: float) -> float:
    """The greatest of 1, 2, 5 times a power of ten that is not above `about`."""
    power = 10.0 ** math.floor(math.log10(about))
    return max(factor * power for factor in (1.0, 2.0, 5.0) if factor * power <= about * (1 + 1e-9))


def _span(places: Sequence[float]) -> tuple[float, float]:
    """From the least to the greatest; never empty."""
    low, high = (min(places), max(places)) if places else (0.0, 1.0)
    return (low, high) if high - low > 1e-9 * max(1.0, abs(high)) else (low - 0.5, high + 0.5)


def _seen(curve: Curve, picture: Picture) -> list[tuple[float, float]]:
    return [(x, y) for x, y in curve.points if picture.x.shows(x) and picture.y.shows(y)]


def _axes(picture: Picture, frame: _Frame) -> Iterable[str]:
    """Grid, numbers and titles."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for place, told in ticks(*frame.x, picture.x.scale):
        left = frame.left_px(place)
        yield _line(left, TOP, left, bottom, "#e0e0e0")
        yield _text(left, bottom + 18, told, 'text-anchor="middle"')
    for place, told in ticks(*frame.y, picture.y.scale):
        top = frame.top_px(place)
        yield _line(LEFT, top, right, top, "#e0e0e0")
        yield _text(LEFT - 8, top + 4, told, 'text-anchor="end"')
    yield (
        f'<rect x="{LEFT}" y="{TOP}" width="{right - LEFT}" height="{bottom - TOP}" '
        'fill="none" stroke="#404040"/>'
    )
    yield _text((LEFT + right) / 2, HEIGHT - 16, picture.x.title, 'text-anchor="middle"')
    middle = (TOP + bottom) / 2
    turned = f'text-anchor="middle" transform="rotate(-90 18 {middle:g})"'
    yield _text(18, middle, picture.y.title, turned)


def _curve(curve: Curve, colour: str, picture: Picture, frame: _Frame) -> str:
    places = [
        (frame.left_px(picture.x.place(x)), frame.top_px(picture.y.place(y)))
        for x, y in _seen(curve, picture)
    ]
    if curve.drawn == "dots":
        return "\n".join(_dot(left, top, colour) for left, top in places)
    joined = " ".join(f"{left:.2f},{top:.2f}" for left, top in places)
    return f'<polyline points="{joined}" {_stroke(curve, colour)}/>'


def _legend(picture: Picture, frame: _Frame) -> Iterable[str]:
    """In the corner that the fewest points lie in."""
    width = 46 + 7 * max((len(curve.name) for curve in picture.curves), default=0)
    height = 8 + 18 * len(picture.curves)
    corners = [
        (left, top)
        for top in (TOP + 8, HEIGHT - BOTTOM - height - 8)
        for left in (LEFT + 8, WIDTH - RIGHT - width - 8)
    ]
    places = [
        (frame.left_px(picture.x.place(x)), frame.top_px(picture.y.place(y)))
        for curve in picture.curves
        for x, y in _seen(curve, picture)
    ]

    def covered(corner: tuple[float, float]) -> int:
        left, top = corner
        return sum(left <= x <= left + width and top <= y <= top + height for x, y in places)

    left, top = min(corners, key=covered)
    yield (
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="white" '
        'fill-opacity="0.85" stroke="#c0c0c0"/>'
    )
    for index, curve in enumerate(picture.curves):
        colour, middle = COLOURS[index % len(COLOURS)], top + 13 + 18 * index
        if curve.drawn == "dots":
            yield _dot(left + 20, middle, colour)
        else:
            points = f"{left + 8},{middle} {left + 32},{middle}"
            yield f'<polyline points="{points}" {_stroke(curve, colour)}/>'
        yield _text(left + 40, middle + 4, curve.name)


def _stroke(curve: Curve, colour: str) -> str:
    dashes = ' stroke-dasharray="6 4"' if curve.drawn == "dashes" else ""
    return f'fill="none" stroke="{colour}" stroke-width="1.8"{dashes}'


def _dot(left: float, top: float, colour: str) -> str:
    return f'<circle cx="{left:.2f}" cy="{top:.2f}" r="3" fill="{colour}" fill-opacity="0.8"/>'


def _line(left: float, top: float, to_left: float, to_top: float, colour: str) -> str:
    ends = f'x1="{left:.2f}" y1="{top:.2f}" x2="{to_left:.2f}" y2="{to_top:.2f}"'
    return f'<line {ends} stroke="{colour}"/>'


def _text(left: float, top: float, told: str, more: str = "") -> str:
    return f'<text x="{left:.2f}" y="{top:.2f}" {more}>{escape(told)}</text>'
