"""Plots as figures of Plotly: the JSON that its script draws; a heat map is a table."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Any

from pipelines.reports.palette import DASHES, LIGHT, SHADES, SYMBOLS, style_of
from pipelines.reports.plots import Axis, Bars, Graph, Mark, Plot, Ranges, Series
from pipelines.reports.ticks import Scale, colour_scale

# The buttons are named one by one, so that no version of Plotly adds one which sends the data away.
OPTIONS: dict[str, Any] = {
    "displaylogo": False,
    "responsive": True,
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "modeBarButtons": [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "autoScale2d"]],
}

# A figure's `data` and `layout`.
Figure = dict[str, Any]

_FONT = {"family": "system-ui, sans-serif", "size": 13, "color": "#1c2430"}
_GRID, _MARK, _FEW = "#dfe3e8", "#4a5563", "#b4bac2"
_HATCHES = ("", "/", ".", "x", "-", "\\", "+", "|")
_MOST_MARKERS = 200
# Part of a group of bars that is left free.
_GAP = 0.2
# Height above the plot, where the toolbar covers nothing.
_TOOLBAR = 34
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def figure_of(plot: Plot) -> Figure:
    """Returns the figure of a plot."""
    if isinstance(plot, Graph):
        return _graph(plot)
    if isinstance(plot, Bars):
        return _bars(plot)
    if isinstance(plot, Ranges):
        return _ranges(plot)
    raise TypeError(f"a chart of {type(plot).__name__} is a table")


def _graph(graph: Graph) -> Figure:
    data = [_trace(series, at, graph.x) for at, series in enumerate(graph.series)]
    if (colours := colour_scale(graph)) is not None:
        assert graph.colours is not None
        for trace, series in zip(data, graph.series, strict=True):
            if series.values:
                trace["marker"] |= _shaded(series.values, colours, graph.colours.title)
    layout = _layout(has_legend=len([s for s in graph.series if s.name]) > 1)
    layout |= {"xaxis": _axis(graph.x), "yaxis": _axis(graph.y), "height": graph.height + 150}
    if graph.x.is_hidden:
        layout["hovermode"] = "closest"
        layout["margin"] |= {"l": 16, "b": 16}
    layout["shapes"] = [
        {
            "type": "line",
            **{f"{mark.axis}{end}": _mark(graph, mark) for end in (0, 1)},
            **{("yref" if mark.axis == "x" else "xref"): "paper"},
            **{f"{'y' if mark.axis == 'x' else 'x'}{end}": end for end in (0, 1)},
            "line": {"color": _MARK, "dash": "dash", "width": 1},
        }
        for mark in graph.marks
    ]
    return {"data": data, "layout": layout}


def _mark(graph: Graph, mark: Mark) -> float | str:
    return _position(graph.x if mark.axis == "x" else graph.y, mark.value)


def _trace(series: Series, at: int, x: Axis) -> dict[str, Any]:
    style = style_of(at)
    colour = _MARK if series.is_faint else LIGHT[style]
    trace: dict[str, Any] = {
        "type": "scatter",
        "name": series.name,
        "x": [_position(x, place) for place, _ in series.points],
        "y": [value for _, value in series.points],
    }
    if series.labels:
        # Plotly reads texts as markup.
        texts = [escape(text, quote=False).replace("\n", "<br>") for text in series.labels]
        trace |= {"text": texts, "hovertemplate": "%{text}<extra></extra>"}
    if not series.name:
        trace["showlegend"] = False
    if series.keys:
        trace["customdata"] = list(series.keys)
    if series.bounds:
        trace["error_y"] = _error([value for _, value in series.points], series.bounds)
    if series.kind == "bars":
        return trace | {"type": "bar", "marker": {"color": colour}}
    if series.kind == "rings":
        ring = {"color": _FONT["color"], "symbol": "circle-open", "size": 18, "line": {"width": 3}}
        return trace | {"mode": "markers", "marker": ring}
    if series.kind == "points":
        fill = _colours(series.faint, colour)
        marker = {"color": fill, "symbol": SYMBOLS[style], "size": 7, "opacity": 0.75}
        return trace | {"mode": "markers", "marker": marker}
    is_dotted = len(series.points) <= _MOST_MARKERS and not series.is_faint
    line = {"color": colour, "dash": "dash" if series.is_faint else DASHES[style]}
    return trace | {
        "mode": "lines+markers" if is_dotted else "lines",
        "line": line | {"width": 1 if series.is_faint else 2},
        "marker": {"symbol": SYMBOLS[style], "size": 7, "color": _colours(series.faint, colour)},
    }


def _shaded(values: Sequence[float], colours: Scale, title: str) -> dict[str, Any]:
    """Returns the colours of points by their values, with a bar that tells which is which."""
    bar = {
        "title": {"text": escape(title, quote=False), "side": "right"},
        "tickvals": [colours.share(value) for value, _ in colours.ticks],
        "ticktext": [text for _, text in colours.ticks],
        "thickness": 12,
    }
    return {
        "color": [round(colours.share(value), 4) for value in values],
        "symbol": SYMBOLS[0],
        "cmin": 0,
        "cmax": 1,
        "colorscale": [[at / (len(SHADES) - 1), shade] for at, shade in enumerate(SHADES)],
        "colorbar": bar,
        "showscale": True,
    }


def _colours(faint: Sequence[bool], colour: str) -> str | list[str]:
    """Returns the colour of all points, or that of each where some say little."""
    return [_FEW if is_faint else colour for is_faint in faint] if any(faint) else colour


def _error(
    values: Sequence[float | None], bounds: Sequence[tuple[float, float] | None]
) -> dict[str, Any]:
    """Returns the whiskers of values, 0 long where there is no interval."""
    known = [
        (value, *(ends or (value, value))) if value is not None else (0.0, 0.0, 0.0)
        for value, ends in zip(values, bounds, strict=True)
    ]
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - value for value, _, high in known],
        "arrayminus": [value - low for value, low, _ in known],
        "color": _MARK,
        "thickness": 1.5,
        "width": 3,
    }


def _bars(bars: Bars) -> Figure:
    # Lying bars begin at the bottom, and the first group and series shall be on top.
    data: list[dict[str, Any]] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": list(bars.groups),
            "x": list(values),
            "customdata": _texts(values, bars.spec),
            "offsetgroup": name,
            "hovertemplate": "%{y}: %{customdata}<extra>%{fullData.name}</extra>",
            "error_x": _error(values, bars.bounds.get(name) or [None] * len(values)),
            "marker": {
                "color": _colours(bars.faint, LIGHT[style_of(at)]),
                "pattern": {"shape": _HATCHES[style_of(at)]},
            },
        }
        for at, (name, values) in enumerate(bars.series.items())
    ]
    # Figures stand beyond the whiskers, which would strike them through at the ends of the bars.
    data += [
        {
            "type": "scatter",
            "orientation": "h",
            "mode": "text",
            "y": list(bars.groups),
            "x": _ends(values, bars.bounds.get(name)),
            "text": [f" {text}" for text in _texts(values, bars.spec)],
            "textposition": "middle right",
            "textfont": {"size": 11},
            "offsetgroup": name,
            "cliponaxis": False,
            "showlegend": False,
            "hoverinfo": "skip",
        }
        for name, values in bars.series.items()
    ]
    layout = _layout(has_legend=len(bars.series) > 1)
    layout |= {"scattermode": "group", "scattergap": _GAP, "bargap": _GAP, "barmode": "group"}
    layout["height"] = 120 + len(bars.groups) * (12 + 15 * len(bars.series))
    layout["xaxis"] = _axis(Axis(bars.title))
    layout["yaxis"] = _axis(Axis(categories=bars.groups)) | {"autorange": "reversed"}
    layout["yaxis"]["ticklabelposition"] = "inside top" if len(bars.series) > 1 else "outside"
    layout["margin"] = {"l": 16, "r": 60, "t": _TOOLBAR, "b": 48}
    return {"data": data, "layout": layout}


def _texts(values: Sequence[float | None], spec: str) -> list[str]:
    return ["-" if value is None else format(value, spec) for value in values]


def _ends(
    values: Sequence[float | None], bounds: Sequence[tuple[float, float] | None] | None
) -> list[float]:
    """Returns the right ends of bars with their whiskers."""
    pairs = zip(values, bounds or [None] * len(values), strict=True)
    return [max(value or 0.0, ends[1] if ends else 0.0) for value, ends in pairs]


def _ranges(ranges: Ranges) -> Figure:
    data: list[dict[str, Any]] = []
    dots = [(value, row.name) for row in ranges.rows for value in row.dots]
    if dots:
        marker = {"color": _MARK, "size": 5, "opacity": 0.7}
        x, y = (list(each) for each in zip(*dots, strict=True))
        data.append({"type": "scatter", "mode": "markers", "x": x, "y": y, "marker": marker})
    data.append(
        {
            "type": "scatter",
            "mode": "markers",
            "x": [row.value for row in ranges.rows],
            "y": [row.name for row in ranges.rows],
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": [_known(row.high, row.value) - row.value for row in ranges.rows],
                "arrayminus": [row.value - _known(row.low, row.value) for row in ranges.rows],
            },
            "marker": {"color": LIGHT[0], "size": 9},
            "hovertemplate": f"%{{y}}: %{{x:{ranges.spec}}}<extra></extra>",
        }
    )
    layout = _layout(has_legend=False)
    layout["height"] = 90 + 28 * len(ranges.rows)
    layout["xaxis"] = _axis(Axis(ranges.title))
    if ranges.is_difference:
        layout["xaxis"] |= {"zeroline": True, "zerolinecolor": "#1c2430"}
    layout["yaxis"] = _axis(Axis(categories=[row.name for row in ranges.rows]))
    layout["yaxis"]["autorange"] = "reversed"
    return {"data": data, "layout": layout}


def _known(bound: float | None, value: float) -> float:
    """Returns an end of an interval, which may be 0; the value itself where there is none."""
    return value if bound is None else bound


def _axis(axis: Axis) -> dict[str, Any]:
    made: dict[str, Any] = {
        "title": {"text": escape(axis.title, quote=False), "font": {"size": 13}},
        "gridcolor": _GRID,
        "automargin": True,
    }
    if axis.is_hidden:
        return made | {"showticklabels": False, "showgrid": False, "zeroline": False}
    if axis.categories:
        return made | {"type": "category", "categoryarray": list(axis.categories)}
    if axis.scale == "time":
        return made | {"type": "date"}
    if axis.scale == "log":
        return made | {"type": "log"}
    if axis.scale == "share":
        made["tickformat"] = ".0%"
    if axis.bounds is not None:
        made["range"] = list(axis.bounds)
    return made


def _position(axis: Axis, value: float) -> float | str:
    """Returns a value of an axis as Plotly places it."""
    if axis.categories:
        return axis.categories[round(value)]
    if axis.scale == "time":
        return f"{_EPOCH + timedelta(seconds=value):%Y-%m-%d %H:%M:%S}"
    return value


def _layout(*, has_legend: bool) -> dict[str, Any]:
    return {
        "font": _FONT,
        "margin": {"l": 56, "r": 16, "t": _TOOLBAR, "b": 48},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        # On its colours, as of a light point, a text would be hard to read.
        "hoverlabel": {"bgcolor": "#ffffff", "font": {"color": _FONT["color"]}},
        "showlegend": has_legend,
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
    }
