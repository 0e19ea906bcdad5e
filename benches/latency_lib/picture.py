"""The picture: time over percentile, one line for each case and load, as SVG."""

import math
from html import escape

_WIDTH, _HEIGHT = 820, 480
_LEFT, _TOP, _PLOT_WIDTH, _PLOT_HEIGHT = 80, 70, 500, 340
_COLOURS = ("#0072b2", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#e69f00")
# Decades of the tail: 0 is the fastest half's side, 5 one in a hundred thousand.
_DECADES = 5


def svg(result: dict) -> str:
    """Percentiles are spread so that each further nine takes the same room; times are logarithmic."""
    points = result["points"]
    times = [nanos for point in points for _, nanos in point["curve"]] or [1]
    low, high = math.floor(math.log10(max(1, min(times)))), math.ceil(math.log10(max(2, max(times))))
    high = max(high, low + 1)

    def x(decades: float) -> float:
        return round(_LEFT + decades / _DECADES * _PLOT_WIDTH, 1)

    def y(nanos: float) -> float:
        share = (math.log10(max(1, nanos)) - low) / (high - low)
        return round(_TOP + (1 - share) * _PLOT_HEIGHT, 1)

    about = result["machine"]
    title = f"time of 64-byte frames through weir over net_memif, {result['settings']['flows']} flows"
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="26" font-size="16">{escape(title)}</text>',
        f'<text x="{_LEFT}" y="46" fill="#555">{escape(str(about.get("model name", "")))}, {escape(str(about["revision"]))}</text>',
    ]
    for power in range(low, high + 1):
        at = y(10**power)
        out.append(f'<line x1="{_LEFT}" y1="{at}" x2="{_LEFT + _PLOT_WIDTH}" y2="{at}" stroke="#ddd"/>')
        out.append(f'<text x="{_LEFT - 6}" y="{at + 4}" text-anchor="end" fill="#555">{_time(10**power)}</text>')
    for decade in range(_DECADES + 1):
        at = x(decade)
        label = "0" if decade == 0 else f"{100 * (1 - 10**-decade):.{max(0, decade - 2)}f} %"
        out.append(f'<line x1="{at}" y1="{_TOP}" x2="{at}" y2="{_TOP + _PLOT_HEIGHT}" stroke="#eee"/>')
        out.append(f'<text x="{at}" y="{_TOP + _PLOT_HEIGHT + 18}" text-anchor="middle" fill="#555">{label}</text>')
    loads = sorted({point["load_percent"] for point in points})
    for number, point in enumerate(points):
        colour = _COLOURS[loads.index(point["load_percent"]) % len(_COLOURS)]
        dashes = ' stroke-dasharray="6 3"' if point["case"] == "macswap" else ""
        line = " ".join(f"{x(min(_DECADES, -math.log10(max(1e-9, 1 - share))))},{y(nanos)}" for share, nanos in point["curve"])
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
        row = _TOP + 10 + number * 20
        left = _LEFT + _PLOT_WIDTH + 24
        out.append(f'<path d="M{left} {row}h30" stroke="{colour}" stroke-width="2"{dashes}/>')
        name = "testpmd macswap" if point["case"] == "macswap" else f"weir {point['case'].upper()}"
        out.append(f'<text x="{left + 36}" y="{row + 4}">{name}, {point["load_percent"]} %</text>')
    return "\n".join([*out, "</svg>", ""])


def _time(nanos: int) -> str:
    for unit, size in (("s", 10**9), ("ms", 10**6), ("µs", 1000)):
        if nanos >= size:
            return f"{nanos // size} {unit}"
    return f"{nanos} ns"
