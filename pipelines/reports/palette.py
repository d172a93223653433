"""Styles of series: no colour means anything by itself, each goes with a dash and a symbol."""

# Okabe and Ito's colours, which the colour-blind can tell apart, darkened where they were faint on
# white, and lightened for dark pages.
LIGHT = ("#0072b2", "#b34700", "#00795a", "#a3427c", "#8a6d00", "#333333", "#2f7fa8", "#6a51a3")
DARK = ("#56b4e9", "#e69f00", "#2fc49a", "#e08fc0", "#e0c341", "#c9d1d9", "#8fc7e8", "#b9a5ea")
# Colours of values from low to high, of even steps to the eye (from viridis of Matplotlib).
SHADES = ("#443983", "#31688e", "#21918c", "#35b779", "#8fd744")
# By their names in Plotly, and as lengths for SVG.
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "solid", "dash", "dot")
LENGTHS = {"solid": "", "dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3", "longdash": "12 5"}
SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star", "hexagon")
# Outlines of the symbols around (0, 0), about 7 units wide.
OUTLINES = {
    "circle": "M-3.5,0a3.5,3.5 0 1,0 7,0a3.5,3.5 0 1,0 -7,0Z",
    "square": "M-3,-3h6v6h-6Z",
    "diamond": "M0,-4.4L4.4,0L0,4.4L-4.4,0Z",
    "cross": "M-1.3,-4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7Z",
    "x": "M-3.8,-2L-2,-3.8L0,-1.8L2,-3.8L3.8,-2L1.8,0L3.8,2L2,3.8L0,1.8L-2,3.8L-3.8,2L-1.8,0Z",
    "triangle-up": "M0,-4.2L4,3H-4Z",
    "star": "M0,-4.8L1.3,-1.5L4.6,-1.5L2,0.7L3,4L0,2L-3,4L-2,0.7L-4.6,-1.5L-1.3,-1.5Z",
    "hexagon": "M0,-4L3.5,-2V2L0,4L-3.5,2V-2Z",
}


def shade_of(share: float) -> str:
    """Returns the colour of a value at a place from 0 to 1; others count as the nearest."""
    place = min(max(share, 0.0), 1.0) * (len(SHADES) - 1)
    at = min(int(place), len(SHADES) - 2)
    channels = (
        round((1 - place + at) * low + (place - at) * high)
        for low, high in zip(*(bytes.fromhex(s[1:]) for s in SHADES[at : at + 2]), strict=True)
    )
    return "#" + bytes(channels).hex()


def style_of(at: int) -> int:
    """Returns the number of the style of the series at a position."""
    return at % len(LIGHT)
