"""The metrics of a server, for Prometheus."""

from collections.abc import Callable
from functools import lru_cache, partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from pipelines.http.admission import REASONS, Admission
from serving.recommend.memory import MemoryQueries
from serving.recommend.stored import StoredQueries
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
            "Recommendations by popularity, for want of all else.",
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
        self._unknown_events = Counter(
            "recsys_events_of_unknown_items",
            "Accepted events of items that no bundle has, which are in no history.",
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

    def count_events(self, events: int, unknown: int) -> None:
        """Counts accepted events, and those among them of items that no bundle has."""
        self._events.inc(events)
        self._unknown_events.inc(unknown)

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

    def watch_online_store(self, store: StoredQueries) -> None:
        """Reports whether the store answers, asked for at each reading."""
        self._watch(
            "recsys_online_store_failures",
            "Number of times that the online store did not answer.",
            lambda: store.failures,
        )
        self._watch(
            "recsys_online_store_up",
            "1 if the online store answered when it was last asked.",
            lambda: float(store.is_available),
        )

    def watch_memory(self, queries: MemoryQueries) -> None:
        """Reports how much the events in memory take, asked for at each reading."""
        self._watch("recsys_events_bytes", "Bytes of the events in memory.", lambda: queries.size)
        self._watch(
            "recsys_forgotten_queries",
            "Number of queries whose events gave way to those of others.",
            lambda: queries.forgotten,
        )

    def watch_connections(self, admission: Admission) -> None:
        """Reports the connections of the server, asked for at each reading."""
        self._watch("recsys_connections", "Connections at this moment.", lambda: len(admission))
        ended = Gauge(
            "recsys_ended_connections",
            "Number of connections that the server ended, by reason.",
            ["reason"],
            registry=self._registry,
        )
        for reason in REASONS:
            ended.labels(reason).set_function(partial(admission.closed.__getitem__, reason))

    def _watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        Gauge(name, text, registry=self._registry).set_function(read)

    def text(self) -> bytes:
        """Renders all metrics in Prometheus' format."""
        return generate_latest(self._registry)
