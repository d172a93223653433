"""Time of the stages of an answer."""

import time

STAGES = ("features", "tower", "filter", "search", "answer")


class StageTimer:
    """Seconds of each stage of one request; a stage that comes twice adds up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def end(self, stage: str) -> None:
        """Adds the time since the last stage ended to this stage."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now
