"""Where the time of an answer goes."""

import time

STAGES = ("features", "tower", "filter", "search", "answer")


class Stages:
    """Seconds of each stage of one request; a stage that comes twice adds up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def end(self, stage: str) -> None:
        """What passed since the last stage ended was this one's."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now
