"""The temperature of the main softmax where it is learned."""

import math

import torch
from torch import Tensor, nn


class LearnedTemperature(nn.Module):
    """A positive number within bounds, learned as its logarithm (Radford et al. 2021, sec. 2.5).

    Where a step leads out of the bounds, the parameter is set back to the bound, from where a
    gradient can lead it in again.

    Args:
        start: The temperature to begin with.
        bounds: The lowest and the highest temperature.
    """

    def __init__(self, start: float, bounds: tuple[float, float]) -> None:
        super().__init__()
        self._low, self._high = map(math.log, bounds)
        # A scalar, which weight decay leaves alone as it does biases.
        self.log_temperature = nn.Parameter(torch.tensor(math.log(start)))

    def forward(self) -> Tensor:
        """A scalar, with a gradient."""
        with torch.no_grad():
            self.log_temperature.clamp_(self._low, self._high)
        return self.log_temperature.exp()
