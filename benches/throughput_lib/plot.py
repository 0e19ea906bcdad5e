"""The picture: rate and ratio over the number of flows, as SVG."""

import math
from collections.abc import Callable
from html import escape

from .report import REFERENCE, figures, flows_label, label, machine_lines
from .traffic import KINDS
from .weir import METHODS

_WIDTH, _HEIGHT = 1060, 470
_PANEL_WIDTH, _PANEL_HEIGHT = 400, 300
_TOP = 70
# Distinguishable also with colour-blindness (Okabe and Ito): testpmd dashed and grey, weir in colour.
_STYLES = {
    "io": ("#999999", "2 3"),
    "macswap": ("#777777", "6 3"),
    "5tswap": ("#333333", "10 4"),
    "dr": ("#0072b2", ""),
    "tun": ("#d55e00", ""),
    "gue": ("#cc79a7", ""),
    "gre": ("#56b4e9", ""),
    "nat": ("#009e73", ""),
}


def svg(result: dict) -> str | None:
    """None when nothing was measured at two numbers of flows or more."""
    points = _sweep(result)
    if len(points) < 2:
        return None
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="60" y="26" font-size="16">{escape(_heading(points[0]))}</text>',
        f'<text x="60" y="46" fill="#555">{escape(next(machine_lines(result)))}</text>',
    ]
    programs = [p for p in _STYLES if any(figures(point, p) for point in points)]
    out += _panel(60, "million packets per second of CPU time", points, programs, lambda f: f["mpps"])
    weir = [p for p in programs if p in METHODS]
    if weir:
        out += _panel(550, f"weir / testpmd {REFERENCE}", points, weir, lambda f: f.get("ratio"))
    for i, program in enumerate(programs):
        x, y = 60 + i * 150, _TOP + _PANEL_HEIGHT + 70
        colour, dashes = _STYLES[program]
        out.append(f'<path d="M{x} {y}h30" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>')
        out.append(f'<text x="{x + 36}" y="{y + 4}">{label(program)}</text>')
    return "\n".join([*out, "</svg>", ""])


def _heading(point: dict) -> str:
    cores = "one core" if point["workers"] == 1 else f"{point['workers']} cores"
    return f"{KINDS[point['kind']]}, {point['size']}-byte frames, {cores}"


def _sweep(result: dict) -> list[dict]:
    """The points that differ from the first in nothing but the number of flows, fewest first."""
    measured = [point for point in result["points"] if point["results"]]
    if not measured:
        return []
    first = measured[0]
    alike = {p["flows"]: p for p in measured if (p["kind"], p["size"]) == (first["kind"], first["size"])}
    return [alike[flows] for flows in sorted(alike)]


def _panel(
    left: int, title: str, points: list[dict], programs: list[str], value: Callable[[dict], float | None]
) -> list[str]:
    series = {}
    for program in programs:
        known = ((point["flows"], figures(point, program)) for point in points)
        series[program] = [(flows, y) for flows, f in known if f and (y := value(f)) is not None]
    highest = max((y for line in series.values() for _, y in line), default=1)
    step = _step(highest)
    top = step * math.ceil(highest / step)
    low, high = math.log10(points[0]["flows"]), math.log10(points[-1]["flows"])

    def x(flows: int) -> float:
        return round(left + 10 + (math.log10(flows) - low) / (high - low) * (_PANEL_WIDTH - 20), 1)

    def y(value: float) -> float:
        return round(_TOP + 20 + (1 - value / top) * _PANEL_HEIGHT, 1)

    out = [f'<text x="{left}" y="{_TOP + 4}">{escape(title)}</text>']
    for i in range(round(top / step) + 1):
        at = y(i * step)
        out.append(f'<line x1="{left}" y1="{at}" x2="{left + _PANEL_WIDTH}" y2="{at}" stroke="#ddd"/>')
        out.append(f'<text x="{left - 6}" y="{at + 4}" text-anchor="end" fill="#555">{i * step:g}</text>')
    for point in points:
        at = x(point["flows"])
        flows = flows_label(point["flows"])
        out.append(f'<text x="{at}" y="{y(0) + 18}" text-anchor="middle" fill="#555">{flows}</text>')
    out.append(f'<text x="{left + _PANEL_WIDTH / 2}" y="{y(0) + 36}" text-anchor="middle" fill="#555">flows</text>')
    for program, line in series.items():
        colour, dashes = _STYLES[program]
        path = " ".join(f"{x(flows)},{y(rate)}" for flows, rate in line)
        style = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"'
        out.append(f'<polyline points="{path}" {style}/>')
        out += [f'<circle cx="{x(flows)}" cy="{y(rate)}" r="3" fill="{colour}"/>' for flows, rate in line]
    return out


def _step(highest: float) -> float:
    """A round step that makes four to ten lines."""
    power = 10 ** math.floor(math.log10(highest))
    return next(power * factor for factor in (0.1, 0.2, 0.5, 1, 2) if highest / (power * factor) <= 8)
