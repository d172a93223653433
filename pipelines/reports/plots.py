"""Plots as plain data; a back end draws them as static SVG, another one with Plotly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal


@dataclass(frozen=True)
class Axis:
    """An axis of a graph.

    Attributes:
        title: Quantity and unit.
        scale: `share` shows per cent; values of `time` are seconds since 1970, UTC.
        categories: Names of the positions 0, 1, ..., where the axis has no scale.
        spec: Format of its numbers, as of `format`; empty: by the distance of the ticks.
        bounds: Lowest and highest value; None: those of the points.
        is_hidden: Whether the values mean nothing and are not shown.
    """

    title: str = ""
    scale: Literal["linear", "log", "time", "share"] = "linear"
    categories: Sequence[str] = ()
    spec: str = ""
    bounds: tuple[float, float] | None = None
    is_hidden: bool = False


@dataclass(frozen=True)
class Series:
    """Points of one kind.

    Attributes:
        name: Name in the legend; empty: not in the legend.
        points: (x, y) in the order of drawing; a y of None is a gap.
        kind: `bars` stand upright at their x, as wide as the smallest distance of two; `rings` are
            drawn around points of other series.
        labels: Text of each point for a pointer; empty: its coordinates.
        is_faint: Whether it is only the background of the others.
        bounds: Interval of each point, None where it has none; empty: no point has one.
        faint: Whether each point says little, and is grey; empty: none is.
        values: Value of each point on the graph's axis of colours; empty: the colour of the series.
        keys: Key of what each point stands for, by which a click finds it; empty: none has one.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    kind: Literal["line", "points", "bars", "rings"] = "line"
    labels: Sequence[str] = ()
    is_faint: bool = False
    bounds: Sequence[tuple[float, float] | None] = ()
    faint: Sequence[bool] = ()
    values: Sequence[float] = ()
    keys: Sequence[str] = ()


@dataclass(frozen=True)
class Mark:
    """A dashed line across the plot, at a value of one axis."""

    axis: Literal["x", "y"]
    value: float
    label: str


@dataclass(frozen=True)
class Graph:
    """Series in the plane.

    Attributes:
        series: Series; the styles repeat after eight.
        x: Horizontal axis.
        y: Vertical axis.
        marks: Dashed lines.
        height: Height of the plot, in pixels.
        colours: Axis of the points' values as colours; None: no point has a value.
    """

    kind: ClassVar[str] = "graph"

    series: Sequence[Series]
    x: Axis
    y: Axis
    marks: Sequence[Mark] = ()
    height: int = 190
    colours: Axis | None = None


@dataclass(frozen=True)
class Bars:
    """Groups of lying bars, with a number at the end of each.

    Attributes:
        groups: Names, the first on top.
        series: Length for each group, by name; None where there is none.
        title: Quantity and unit of the lengths.
        spec: Format of the numbers.
        bounds: Interval of each bar, by name as the lengths; empty: no bar has one.
        faint: Whether each group says little, and is grey; empty: none is.
    """

    kind: ClassVar[str] = "bars"

    groups: Sequence[str]
    series: Mapping[str, Sequence[float | None]]
    title: str = ""
    spec: str = ".3f"
    bounds: Mapping[str, Sequence[tuple[float, float] | None]] = field(default_factory=dict)
    faint: Sequence[bool] = ()


@dataclass(frozen=True)
class Heat:
    """Cells with a number in each, shaded by a value.

    Attributes:
        rows: Names, the first on top.
        columns: Names.
        values: [rows, columns] values of the shades, with another colour below 0.
        texts: [rows, columns] texts of the cells.
        largest: Value of the darkest shade; None: the largest one that there is.
        faint: [rows, columns] whether a cell says little, and is grey whatever its value; empty:
            none is.
    """

    kind: ClassVar[str] = "heat"

    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]
    texts: Sequence[Sequence[str]]
    largest: float | None = None
    faint: Sequence[Sequence[bool]] = ()

    @property
    def scale(self) -> float:
        """Value of the darkest shade, above 0."""
        if self.largest is not None:
            return self.largest or 1.0
        values = [abs(value) for row in self.values for value in row if value is not None]
        return max(values, default=0.0) or 1.0

    def shade(self, row: int, column: int) -> tuple[str, float]:
        """Returns the class of a cell's colour, empty for none, and its strength in per cent."""
        value = self.values[row][column]
        if self.faint and self.faint[row][column]:
            return "faint", 0.0
        if value is None:
            return "", 0.0
        return "below" if value < 0 else "above", min(abs(value) / self.scale, 1.0) * 85


@dataclass(frozen=True)
class Range:
    """A value with its interval.

    Attributes:
        name: Name of the row.
        value: Estimate.
        low: Lower end; None where there is no interval.
        high: Upper end.
        dots: Single values behind the estimate, such as one for each seed.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    dots: Sequence[float] = ()


@dataclass(frozen=True)
class Ranges:
    """Values with their intervals below each other, on one axis.

    Attributes:
        rows: Rows, the first on top.
        title: Quantity and unit of the axis.
        spec: Format of the numbers.
        is_difference: Whether 0 is what everything is held against.
    """

    kind: ClassVar[str] = "ranges"

    rows: Sequence[Range]
    title: str = ""
    spec: str = ".4f"
    is_difference: bool = False


Plot = Graph | Bars | Heat | Ranges
