"""The endpoints without HTTP: choose a variant, ask it, measure, log."""

import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version as package_version

from feature_store.core.times import microseconds
from serving.bundle.manifest import BundleManifest
from serving.experiment.exposure_log import ExposureLog
from serving.experiment.log_rows import Exposure, Outcome
from serving.recommend.answers import Recommendations
from serving.recommend.late_parts import DeferredParts
from serving.recommend.online import OnlineEvents
from serving.recommend.recommender import Recommender
from serving.recommend.stored import StoredQueries
from serving.recommend.timing import StageTimer
from serving.server.api import (
    BatchRequest,
    BatchResponse,
    EventsRequest,
    EventsResponse,
    Health,
    Model,
    RecommendRequest,
    RecommendResponse,
    SimilarItemsRequest,
    SimilarItemsResponse,
    VariantVersion,
    Version,
)
from serving.server.deployment import MAIN, Serving
from serving.server.metrics import ServerMetrics


class Service:
    """Answers requests; several threads may use it at a time.

    Args:
        serving: Function that returns the recommenders that answer now.
        metrics: Metrics of the server.
        online: State that events are added to; None: they are dropped.
        log: Log of exposures and events; None: none is kept.
    """

    def __init__(
        self,
        serving: Callable[[], Serving],
        metrics: ServerMetrics,
        *,
        online: OnlineEvents | None = None,
        log: ExposureLog | None = None,
    ) -> None:
        self._serving = serving
        self._online = online
        self._log = log
        self.metrics = metrics
        if log is not None:
            metrics.watch_log(lambda: log.dropped)

    @classmethod
    def of(cls, recommender: Recommender) -> "Service":
        """Makes the service of one bundle, without events and log."""
        serving = Serving({MAIN: recommender})
        return cls(lambda: serving, ServerMetrics())

    @property
    def recommender(self) -> Recommender:
        """Recommender of the first variant, the control of a test."""
        return next(iter(self._serving().recommenders.values()))

    @property
    def is_waiting(self) -> bool:
        """Whether an answer may have to: for parts that are being read, or for an online store."""
        is_asked = isinstance(self._online, StoredQueries)
        return is_asked or any(not parts.is_read for parts in self._deferred())

    @property
    def fault(self) -> str | None:
        """The reason why some queries cannot be answered; None where all can."""
        faults = (parts.fault for parts in self._deferred())
        return next((fault for fault in faults if fault is not None), None)

    def _deferred(self) -> list[DeferredParts]:
        late = (each.late for each in self._serving().recommenders.values())
        return [parts for parts in late if isinstance(parts, DeferredParts)]

    def recommend(self, body: RecommendRequest) -> RecommendResponse:
        """Recommends items for one query.

        Raises:
            UserError: A value is not one of the model's.
        """
        started = time.perf_counter()
        timer = StageTimer()
        serving = self._serving()
        name, recommender, is_override = serving.choose(body.query_id, body.variant)
        best = recommender.recommend(body.query_id or "", body.k, body.options(), timer)
        self.metrics.count_recommendations(name, timer, int(best.fallback))
        answer = _response(best, body.query_id, name, recommender)
        self._expose(serving, answer, is_override, body.k, time.perf_counter() - started)
        return answer

    def recommend_batch(self, body: BatchRequest) -> BatchResponse:
        """Recommends items for several queries, in their order.

        Raises:
            UserError: A value is not one of the model's.
        """
        started = time.perf_counter()
        serving = self._serving()
        rows_of, overrides = defaultdict(list), {}
        for row, query_id in enumerate(body.query_ids):
            name, _, is_override = serving.choose(query_id, body.variant)
            rows_of[name].append(row)
            overrides[row] = is_override
        answers: dict[int, RecommendResponse] = {}
        for name, rows in rows_of.items():
            timer, recommender = StageTimer(), serving.recommenders[name]
            query_ids = [body.query_ids[row] for row in rows]
            best = recommender.recommend_each(query_ids, body.k, body.options(), timer)
            fallbacks = sum(each.fallback for each in best)
            self.metrics.count_recommendations(name, timer, fallbacks, len(best))
            for row, each in zip(rows, best, strict=True):
                answers[row] = _response(each, each.query_id, name, recommender)
        seconds = time.perf_counter() - started
        for row, answer in answers.items():
            self._expose(serving, answer, overrides[row], body.k, seconds)
        return BatchResponse.model_construct(
            results=tuple(answers[row] for row in range(len(body.query_ids)))
        )

    def similar_items(self, body: SimilarItemsRequest) -> SimilarItemsResponse:
        """Finds the items nearest to one; in an experiment by the control.

        Raises:
            UserError: The catalogue has no such item, or there is no such filter.
        """
        name, recommender, _ = self._serving().choose(None, body.variant)
        similar = recommender.similar_items(body.item_id, body.k, body.options())
        return SimilarItemsResponse.model_construct(
            item_id=similar.item_id, items=similar.items, variant=name, model=_model(recommender)
        )

    def events(self, body: EventsRequest) -> EventsResponse:
        """Adds events to histories, from the next answer on, and to the log for the report.

        Raises:
            UnavailableError: The online store does not answer; nothing was added.
        """
        now = datetime.now(UTC)
        times = [microseconds(event.timestamp or now) for event in body.events]
        unknown = self._unknown_items([event.item_id for event in body.events])
        if self._online is not None:
            # An item that no bundle has would only push others out of a history.
            known = [
                (event.query_id, (time, event.item_id))
                for event, time in zip(body.events, times, strict=True)
                if event.item_id not in unknown
            ]
            if known:
                self._online.append(known)
        # The log comes last: refused events will be sent again.
        if self._log is not None:
            for event, time in zip(body.events, times, strict=True):
                self._log.add_outcome(
                    Outcome(
                        time,
                        event.query_id,
                        event.item_id,
                        event.event_type,
                        event.value,
                        event.request_id,
                    )
                )
        self.metrics.count_events(
            len(body.events), sum(event.item_id in unknown for event in body.events)
        )
        return EventsResponse(accepted=len(body.events), unknown_items=tuple(unknown))

    def _unknown_items(self, item_ids: Sequence[str]) -> dict[str, None]:
        """Returns the items, in their order, that none of the bundles has."""
        unknown = tuple(dict.fromkeys(item_ids))
        for recommender in self._serving().recommenders.values():
            unknown = recommender.unknown_items(unknown)
        return dict.fromkeys(unknown)

    def health(self) -> Health:
        """Tells that the process is up, and whether its online store, if any, answers."""
        if not isinstance(self._online, StoredQueries):
            return Health(status="ok")
        state = "available" if self._online.is_available else "unavailable"
        return Health(status="ok", online_store=state)

    def version(self) -> Version:
        """Returns the bundles that answer now."""
        serving = self._serving()
        return Version(
            recsys=package_version("recsys"),
            experiment=serving.experiment.name if serving.experiment else None,
            variants=tuple(
                _variant(name, serving.share(name), recommender.manifest)
                for name, recommender in serving.recommenders.items()
            ),
        )

    def _expose(
        self,
        serving: Serving,
        answer: RecommendResponse,
        is_override: bool,
        k: int,
        seconds: float,
    ) -> None:
        if self._log is None:
            return
        self._log.add_exposure(
            Exposure(
                timestamp=time.time_ns() // 1000,
                request_id=answer.request_id,
                experiment=serving.experiment.name if serving.experiment else "",
                variant=answer.variant,
                query_id=answer.query_id or "",
                # Nobody in particular was not assigned by the hash, either.
                is_override=is_override,
                is_fallback=answer.fallback,
                k=k,
                item_ids=[item.item_id for item in answer.items],
                scores=[item.score for item in answer.items],
                model_version=answer.model.version,
                latency_ms=1000 * seconds,
            )
        )


def _response(
    best: Recommendations, query_id: str | None, variant: str, recommender: Recommender
) -> RecommendResponse:
    # Not validated again: every part of it is our own.
    return RecommendResponse.model_construct(
        query_id=query_id,
        items=best.items,
        fallback=best.fallback,
        source=best.source,
        variant=variant,
        request_id=uuid.uuid4().hex,
        model=_model(recommender),
    )


def _model(recommender: Recommender) -> Model:
    manifest = recommender.manifest
    return Model.model_construct(
        version=manifest.fingerprint, schema_fingerprint=manifest.schema_fingerprint
    )


def _variant(name: str, share: float, manifest: BundleManifest) -> VariantVersion:
    return VariantVersion(
        name=name,
        share=share,
        model=Model(version=manifest.fingerprint, schema_fingerprint=manifest.schema_fingerprint),
        seal=manifest.seal,
        items=manifest.items,
        queries=manifest.queries,
        last_event=manifest.data_window.last_event,
    )
