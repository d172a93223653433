"""Figures of Plotly, as the JSON that its script draws: no colour means anything by itself."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.reports.parts import Figure

# Okabe and Ito's colours, which the colour-blind can tell apart, darkened where they were faint on
# white; each goes with a dash and a marker of its own.
COLOURS = ("#0072b2", "#b34700", "#00795a", "#a3427c", "#8a6d00", "#333333", "#2f7fa8", "#6a51a3")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "solid", "dash", "dot")
MARKERS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star", "hexagon")
_FONT = {"family": "system-ui, sans-serif", "size": 13, "color": "#1c2430"}
_GRID = "#dfe3e8"

Points = Sequence[tuple[Any, float | None]]


def lines(
    series: Mapping[str, Points],
    *,
    x: str,
    y: str,
    marked: float | str | None = None,
    labels: Mapping[str, Sequence[str]] | None = None,
) -> Figure:
    """Curves with markers.

    Args:
        series: By name, (x, y) in order.
        x: Title of the axis.
        y: Title of the axis.
        marked: Where a vertical line is.
        labels: By name, what a pointer reads at each point.
    """
    data: list[dict[str, Any]] = []
    for at, (name, points) in enumerate(series.items()):
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "lines+markers" if len(points) <= 200 else "lines",
            "name": name,
            "x": [point[0] for point in points],
            "y": [point[1] for point in points],
            "line": {"color": _of(COLOURS, at), "dash": _of(_DASHES, at), "width": 2},
            "marker": {"symbol": _of(MARKERS, at), "size": 7},
        }
        if labels is not None:
            trace |= {"text": list(labels[name]), "hovertemplate": "%{text}<extra></extra>"}
        data.append(trace)
    layout = _layout(x, y, has_legend=len(series) > 1)
    if marked is not None:
        line = {"color": "#5b6675", "dash": "dash", "width": 1}
        shape = {"type": "line", "x0": marked, "x1": marked, "yref": "paper", "y0": 0, "y1": 1}
        layout["shapes"] = [{**shape, "line": line}]
    return {"data": data, "layout": layout}


def bars(series: Mapping[str, Mapping[str, float | None]], *, x: str, y: str) -> Figure:
    """Groups of bars, hatched so that they differ without colours.

    Args:
        series: By name, a number for each group.
        x: Title of the axis.
        y: Title of the axis.
    """
    hatches = ("", "/", ".", "x", "-", "\\", "+", "|")
    data = [
        {
            "type": "bar",
            "name": name,
            "x": list(values),
            "y": list(values.values()),
            "marker": {"color": _of(COLOURS, at), "pattern": {"shape": _of(hatches, at)}},
        }
        for at, (name, values) in enumerate(series.items())
    ]
    layout = _layout(x, y, has_legend=len(series) > 1)
    layout["xaxis"]["type"] = "category"
    return {"data": data, "layout": layout}


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    *,
    texts: Sequence[Sequence[str]],
    is_signed: bool,
    largest: float | None = None,
) -> Figure:
    """Cells with their numbers in them.

    Args:
        rows: Names, the first on top.
        columns: Names.
        values: [rows, columns] by which cells are shaded.
        texts: [rows, columns] what is written in them.
        is_signed: Whether the values are around 0: blue above it, and orange below.
        largest: Value, or its size, of the darkest shade; None: the largest that there is.
    """
    colours = (
        [[0, "#d9883c"], [0.5, "#ffffff"], [1, "#5aa2d6"]]
        if is_signed
        else [[0, "#ffffff"], [1, "#5aa2d6"]]
    )
    trace: dict[str, Any] = {
        "type": "heatmap",
        "x": list(columns),
        "y": list(rows),
        "z": [list(row) for row in values],
        "text": [list(row) for row in texts],
        "texttemplate": "%{text}",
        "textfont": {"color": "#1c2430"},
        "hovertemplate": "%{y}, %{x}: %{text}<extra></extra>",
        "colorscale": colours,
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
    }
    if largest is None:
        largest = max((abs(v) for row in values for v in row if v is not None), default=0.0)
    trace |= {"zmin": -(largest or 1.0) if is_signed else 0.0, "zmax": largest or 1.0}
    layout = _layout("", "", has_legend=False)
    layout |= {"height": 90 + 30 * len(rows)}
    layout["yaxis"] |= {"autorange": "reversed", "type": "category", "automargin": True}
    layout["xaxis"] |= {"side": "top", "type": "category", "automargin": True}
    return {"data": [trace], "layout": layout}


def scatter(groups: Mapping[str, Sequence[tuple[float, float, str]]]) -> Figure:
    """A map of points, (x, y, label), each group with a colour and a symbol of its own."""
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": f"{name} ({len(points):,})",
            "x": [round(point[0], 3) for point in points],
            "y": [round(point[1], 3) for point in points],
            "text": [point[2] for point in points],
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {
                "color": _of(COLOURS, at),
                "symbol": _of(MARKERS, at),
                "size": 7,
                "opacity": 0.75,
            },
        }
        for at, (name, points) in enumerate(groups.items())
    ]
    layout = _layout("", "", has_legend=True)
    for axis in ("xaxis", "yaxis"):
        layout[axis] |= {"showticklabels": False, "showgrid": False, "zeroline": False}
    layout |= {"height": 620, "hovermode": "closest"}
    return {"data": data, "layout": layout}


def intervals(rows: Sequence[tuple[str, float, float, float]], *, x: str) -> Figure:
    """Points with whiskers, one row each, the first on top, and a line at 0.

    Args:
        rows: Name, value, low and high.
        x: Title of the axis.
    """
    values = [value for _, value, _, _ in rows]
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "x": values,
        "y": [name for name, *_ in rows],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [high - value for _, value, _, high in rows],
            "arrayminus": [value - low for _, value, low, _ in rows],
        },
        "marker": {"color": COLOURS[0], "size": 9},
        "hovertemplate": "%{y}: %{x:+.4f}<extra></extra>",
    }
    layout = _layout(x, "", has_legend=False)
    layout |= {"height": 90 + 28 * len(rows)}
    layout["xaxis"] |= {"zeroline": True, "zerolinecolor": "#1c2430"}
    layout["yaxis"] |= {"autorange": "reversed", "type": "category"}
    return {"data": [trace], "layout": layout}


def _layout(x: str, y: str, *, has_legend: bool) -> dict[str, Any]:
    def axis(title: str) -> dict[str, Any]:
        return {"title": {"text": title}, "gridcolor": _GRID, "automargin": True}

    return {
        "font": _FONT,
        "height": 340,
        "margin": {"l": 56, "r": 16, "t": 16, "b": 48},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "showlegend": has_legend,
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        "xaxis": axis(x),
        "yaxis": axis(y),
    }


def _of(values: Sequence[str], at: int) -> str:
    return values[at % len(values)]
