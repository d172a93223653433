"""Contrast of colours."""

import numpy as np


def contrast(one: str, other: str) -> float:
    """Returns the contrast ratio of two colours such as `#0072b2`, by WCAG 2.2."""
    lightness = sorted((_luminance(one), _luminance(other)))
    return (lightness[1] + 0.05) / (lightness[0] + 0.05)


def _luminance(colour: str) -> float:
    channels = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
