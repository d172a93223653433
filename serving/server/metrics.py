"""The metrics of a server, for Prometheus."""

from collections.abc import Callable
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving.recommend.timing import StageTimer

# Bounds in seconds: from a tenth of a millisecond, in steps of about two.
_BUCKETS = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class ServerMetrics:
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

    def count_request(self, endpoint: str, status: int, seconds: float) -> None:
        """Counts an answered request."""
        self._of(self._latency, endpoint).observe(seconds)
        self._of(self._requests, endpoint, str(status)).inc()

    def count_recommendations(
        self, variant: str, timer: StageTimer, fallbacks: int, answers: int = 1
    ) -> None:
        """Counts the answers of a variant, and the time of their stages."""
        for stage, seconds in timer.seconds.items():
            self._of(self._stage, stage, variant).observe(seconds)
        self._of(self._answers, variant).inc(answers)
        if fallbacks:
            self._fallbacks.labels(variant).inc(fallbacks)

    def count_events(self, events: int) -> None:
        """Counts accepted events."""
        self._events.inc(events)

    def count_swap(self, result: str) -> None:
        """Counts a change of the bundles: done, refused or back."""
        self._swaps.labels(result).inc()

    def set_models(self, items: dict[str, int], versions: dict[str, str]) -> None:
        """Sets the number of items and the version of the model, by variant."""
        self._items.clear()
        self._model.clear()
        for variant, count in items.items():
            self._items.labels(variant).set(count)
            self._model.labels(variant, versions[variant]).set(1)

    def watch_log(self, dropped: Callable[[], int]) -> None:
        """Reports the number of rows that the log dropped, asked for at each reading."""
        self._dropped.set_function(dropped)

    def watch_online_store(self, failures: Callable[[], int]) -> None:
        """Reports the number of failures of the store, asked for at each reading."""
        self._online_failures.set_function(failures)

    def text(self) -> bytes:
        """Renders all metrics in Prometheus' format."""
        return generate_latest(self._registry)
