"""The charts of the quality report: plain SVG that follows the page's colours, without scripts."""

from html import escape

import numpy as np

from pipelines.statistics.popularity import Popularity

# In SVG units; the plot lies within the margins.
_WIDTH, _HEIGHT = 480, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 12, 30
_BASE = _HEIGHT - _BOTTOM


def activity_chart(starts: tuple[str, ...], events: tuple[int, ...], unit: str) -> str:
    """A bar for each period that has events, at its place in time."""
    times = np.array(starts, "datetime64[m]").astype(np.int64)
    # In the unit itself months are equally wide, and two of them never share a place.
    places = np.array(starts, "datetime64[m]").astype(f"datetime64[{unit}]").astype(np.int64)
    span = int(places[-1] - places[0]) + 1
    width, height, left = 2 * _WIDTH, 220, _LEFT
    base, room = height - _BOTTOM, 2 * _WIDTH - _LEFT - _RIGHT
    highest = max(events)
    bar = room / span
    path = "".join(
        f"M{left + bar * place:.2f},{base}V{base - (base - _TOP) * count / highest:.1f}"
        f"h{max(bar * 0.9, 0.6):.2f}V{base}Z"
        for place, count in zip((places - places[0]).tolist(), events, strict=True)
    )
    first, last = (_day(int(time)) for time in (times[0], times[-1]))
    spoken = f"Events from {first} to {last}, at most {highest:,} at once"
    return (
        f'<svg class="wide" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(spoken)}">'
        f'<path class="bars" d="{path}"/>'
        f'<path class="axis" d="M{left},{_TOP}V{base}H{width - _RIGHT}"/>'
        f'<text x="{left - 6}" y="{_TOP + 8}" text-anchor="end">{highest:,}</text>'
        f'<text x="{left - 6}" y="{base}" text-anchor="end">0</text>'
        f'<text x="{left}" y="{height - 9}">{first}</text>'
        f'<text x="{width - _RIGHT}" y="{height - 9}" text-anchor="end">{last}</text></svg>'
    )


def tail_chart(title: str, found: Popularity, rows: str, events: str) -> str:
    """The share of the events against the share of the items or queries, the popular first.

    Args:
        title: Of the chart.
        found: What to draw.
        rows: Names the rows, such as `items`.
        events: Names what they have.
    """

    def x(share: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * share

    def y(share: float) -> float:
        return _BASE - (_BASE - _TOP) * share

    line = " ".join(f"{x(rank):.1f},{y(share):.1f}" for rank, share in found.curve)
    area = f"{x(0):.1f},{_BASE} {line} {x(1):.1f},{_BASE}"
    grid = "".join(f"M{_LEFT},{y(s):.1f}H{_WIDTH - _RIGHT}" for s in (0.25, 0.5, 0.75, 1.0))
    ticks = "".join(
        f'<text x="{_LEFT - 6}" y="{y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>'
        f'<text x="{x(share):.1f}" y="{_HEIGHT - 12}" text-anchor="{anchor}">{share:.0%}</text>'
        for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
    )
    spoken = (
        f"The most popular 10 % of {rows} have {share_of(found, 0.1):.0%} of the {events}; "
        f"Gini {found.gini:.2f}"
    )
    return (
        f"<figure><h3>{escape(title)}</h3>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(spoken)}">'
        f'<path class="grid" d="{grid}"/><polygon class="area" points="{area}"/>'
        f'<path class="even" d="M{x(0):.1f},{y(0):.1f}L{x(1):.1f},{y(1):.1f}"/>'
        f'<polyline class="curve" points="{line}"/>'
        f'<path class="axis" d="M{_LEFT},{_TOP}V{_BASE}H{_WIDTH - _RIGHT}"/>{ticks}</svg>'
        f'<figcaption class="soft">Across: share of {escape(rows)}, the most popular first. '
        f"Up: share of {escape(events)}. Dashed: if all had the same.</figcaption></figure>"
    )


def share_of(found: Popularity, rows: float) -> float:
    """What share of the events the most popular share of the rows has."""
    ranks, shares = zip(*found.curve, strict=True)
    return float(np.interp(rows, ranks, shares))


def share_cell(share: float) -> str:
    """A table cell with a number over a bar."""
    return (
        f'<td class="share"><span>{share:.1%}</span>'
        f'<i style="--share: {min(1.0, max(0.0, share)):.4f}"></i></td>'
    )


def _day(minutes: int) -> str:
    return str(np.datetime_as_string(np.datetime64(minutes, "m"), unit="D"))
