"""What Prometheus is told."""

from collections.abc import Callable
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving.recommend.timing import Stages

# Seconds: from a tenth of a millisecond, in steps of about two.
_BUCKETS = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Measures:
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self._latency = Histogram(
            "recsys_request_seconds",
            "Time to answer, by endpoint.",
            ["endpoint"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._stage = Histogram(
            "recsys_stage_seconds",
            "Time of each stage of a recommendation.",
            ["stage", "variant"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._requests = Counter(
            "recsys_requests",
            "Answers, by endpoint and status.",
            ["endpoint", "status"],
            registry=registry,
        )
        self._answers = Counter(
            "recsys_answers", "Recommendations, by variant.", ["variant"], registry=registry
        )
        self._fallbacks = Counter(
            "recsys_fallbacks",
            "Recommendations to unknown queries.",
            ["variant"],
            registry=registry,
        )
        self._events = Counter("recsys_events", "Events that were accepted.", registry=registry)
        self._swaps = Counter(
            "recsys_swaps",
            "Changes of the bundles: done, refused or back.",
            ["result"],
            registry=registry,
        )
        self._items = Gauge(
            "recsys_index_items", "Items of the index.", ["variant"], registry=registry
        )
        self._model = Gauge(
            "recsys_model_info",
            "1 of the model that answers.",
            ["variant", "version"],
            registry=registry,
        )
        self._dropped = Gauge(
            "recsys_log_dropped_rows", "Rows that the log could not keep.", registry=registry
        )
        self._online_failures = Gauge(
            "recsys_online_store_failures",
            "How often the online store did not answer.",
            registry=registry,
        )

        # To look labels up takes longer than to count.
        self._of = lru_cache(maxsize=1024)(lambda metric, *labels: metric.labels(*labels))

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """A request ended."""
        self._of(self._latency, endpoint).observe(seconds)
        self._of(self._requests, endpoint, str(status)).inc()

    def recommended(self, variant: str, stages: Stages, fallbacks: int, answers: int = 1) -> None:
        """A variant recommended."""
        for stage, seconds in stages.seconds.items():
            self._of(self._stage, stage, variant).observe(seconds)
        self._of(self._answers, variant).inc(answers)
        if fallbacks:
            self._fallbacks.labels(variant).inc(fallbacks)

    def happened(self, events: int) -> None:
        """Events were accepted."""
        self._events.inc(events)

    def swapped(self, result: str) -> None:
        """The bundles changed, or did not."""
        self._swaps.labels(result).inc()

    def serves(self, items: dict[str, int], versions: dict[str, str]) -> None:
        """By variant: the items of its index, and its model."""
        self._items.clear()
        self._model.clear()
        for variant, count in items.items():
            self._items.labels(variant).set(count)
            self._model.labels(variant, versions[variant]).set(1)

    def watch_log(self, dropped: Callable[[], int]) -> None:
        """Asks how many rows were dropped whenever it is read."""
        self._dropped.set_function(dropped)

    def watch_online_store(self, failures: Callable[[], int]) -> None:
        """Asks how often the store failed whenever it is read."""
        self._online_failures.set_function(failures)

    def text(self) -> bytes:
        """In Prometheus' format."""
        return generate_latest(self._registry)
