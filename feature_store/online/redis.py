"""The online store in Redis, for any number of machines.

    <prefix>:current                        generation that is read
    <prefix>:loading                        generation that is being written
    <prefix>:<generation>:contents          its description
    <prefix>:<generation>:<view>:<bucket>   hash: id -> row; the buckets are ranges of the ids' hash
    <prefix>:appended                       set: queries that events were appended to
    <prefix>:appended:<query>               sorted set: item NUL time, scored by time

A few thousand hashes of many fields take less memory than a key for each row, load faster, and are
replaced and removed by name.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.errors import UserError
from feature_store.core.hashing import hash_of_id, hash_of_ids
from feature_store.online.store import (
    VIEWS,
    Contents,
    Event,
    Keep,
    StoredQuery,
    View,
    batches,
    latest_events,
    nothing_materialized,
)
from feature_store.settings import PASSWORD_VARIABLE

_BUCKETS = 1024
_CONNECT_SECONDS, _ANSWER_SECONDS = 2.0, 5.0
# Rows of a load in memory, and replies that are awaited at a time.
_BATCH_ROWS = 20_000
_SEPARATOR = b"\0"


class RedisStore:
    """The store in Redis; see `OnlineStore`.

    Args:
        url: Address of the server, without a password.
        prefix: Prefix of all keys.

    Raises:
        UserError: The server does not answer.
    """

    def __init__(self, url: str, prefix: str) -> None:
        import redis
        from redis.backoff import ExponentialBackoff
        from redis.retry import Retry

        self._prefix = prefix
        self._contents: Contents | None = None
        # The client's annotations are also those of the asynchronous client.
        self._client: Any = redis.Redis.from_url(
            url,
            password=os.environ.get(PASSWORD_VARIABLE),
            # A server that hangs must not block its clients.
            socket_connect_timeout=_CONNECT_SECONDS,
            socket_timeout=_ANSWER_SECONDS,
            retry=Retry(ExponentialBackoff(cap=0.1, base=0.02), retries=2),
        )
        try:
            self._client.ping()
        except redis.RedisError as error:
            raise UserError(
                f"Redis at {_without_user(url)} does not answer ({type(error).__name__}); start "
                f"it, correct feature_store.redis_url, or set {PASSWORD_VARIABLE}."
            ) from error

    def contents(self) -> Contents | None:
        """Returns the description of the current generation."""
        generation = self._client.get(f"{self._prefix}:current")
        return self._contents_of(generation) if generation is not None else None

    def read(self, view: View, ids: Sequence[str]) -> tuple[Contents, list[bytes | None]]:
        """Reads rows of a view; None where there is none."""
        contents, rows = self._at_current(lambda pipe, g: self._get_all(pipe, g, view, ids))
        return contents, rows

    def read_query(self, query_id: str) -> StoredQuery:
        """Reads everything about a query, of one generation."""

        def ask(pipe: Any, generation: str) -> None:
            self._get_all(pipe, generation, "query_features", [query_id])
            self._get_all(pipe, generation, "query_history", [query_id])
            pipe.zrange(self._appended_key(query_id), 0, -1)

        contents, (features, history, appended) = self._at_current(ask)
        return StoredQuery(contents, features, history, [_event(member) for member in appended])

    def append(self, query_id: str, event: Event) -> None:
        """Adds an event, unless it is there; only the latest of a query are kept."""
        import redis

        contents = self._require_contents()
        key = self._appended_key(query_id)
        while True:
            with self._client.pipeline(transaction=True) as pipe:
                try:
                    pipe.watch(key)
                    before = [_event(member) for member in pipe.zrange(key, 0, -1)]
                    latest = latest_events([*before, event], contents)
                    gone = [_member(other) for other in set(before) - set(latest)]
                    pipe.multi()
                    if event in latest:
                        pipe.zadd(key, {_member(event): event[0]})
                        pipe.sadd(f"{self._prefix}:appended", query_id)
                    if gone:
                        pipe.zrem(key, *gone)
                    pipe.execute()
                    return
                except redis.WatchError:
                    continue  # Another client appended to the same query.

    def appended(self, query_id: str) -> list[Event]:
        """Returns the events that were appended to a query."""
        members = self._client.zrange(self._appended_key(query_id), 0, -1)
        return [_event(member) for member in members]

    def prune(self, keep: Keep) -> None:
        """Removes the appended events that are not kept."""
        index = f"{self._prefix}:appended"
        for name in self._client.sscan_iter(index, count=1000):
            query_id = name.decode()
            key = self._appended_key(query_id)
            gone = [m for m in self._client.zrange(key, 0, -1) if not keep(query_id, _event(m))]
            if gone:
                self._client.zrem(key, *gone)
            self._drop_if_empty(index, query_id)

    @contextmanager
    def load(self, contents: Contents) -> Iterator["_RedisLoader"]:
        """Begins a new generation."""
        before = self._client.get(f"{self._prefix}:current")
        unfinished = self._client.get(f"{self._prefix}:loading")
        if unfinished is not None and unfinished != before:
            self._drop(unfinished.decode())  # It was left by a killed run.
        generation = contents.generation
        self._client.set(f"{self._prefix}:loading", generation)
        yield _RedisLoader(self._client, f"{self._prefix}:{generation}")
        key = f"{self._prefix}:{generation}:contents"
        self._client.set(key, contents.model_dump_json())
        self._client.set(f"{self._prefix}:current", generation)
        self._client.delete(f"{self._prefix}:loading")
        if before is not None:
            self._drop(before.decode())

    def update(self, view: View, ids: Sequence[str], rows: Sequence[bytes]) -> None:
        """Replaces single rows of the current generation."""
        generation = self._require_contents().generation
        with self._client.pipeline(transaction=False) as pipe:
            for text, row in zip(ids, rows, strict=True):
                pipe.hset(self._bucket(generation, view, text), text, row)
            pipe.execute()

    def clear(self) -> None:
        """Removes everything."""
        generation = self._client.get(f"{self._prefix}:current")
        if generation is not None:
            self._client.delete(f"{self._prefix}:current")
            self._drop(generation.decode())
        self.prune(lambda query_id, event: False)

    def close(self) -> None:
        """Closes its connections."""
        self._client.close()

    def _at_current(self, ask: Any) -> tuple[Contents, list[Any]]:
        """Reads the generation that was current last time, and reads again if it no longer is."""
        contents = self._contents or self._require_contents()
        while True:
            with self._client.pipeline(transaction=True) as pipe:
                pipe.get(f"{self._prefix}:current")
                ask(pipe, contents.generation)
                generation, *replies = pipe.execute()
            if generation is not None and generation.decode() == contents.generation:
                return contents, replies
            contents = self._require_contents()

    def _require_contents(self) -> Contents:
        contents = self.contents()
        if contents is None:
            raise nothing_materialized()
        return contents

    def _contents_of(self, generation: bytes) -> Contents | None:
        if self._contents is None or self._contents.generation != generation.decode():
            text = self._client.get(f"{self._prefix}:{generation.decode()}:contents")
            if text is None:  # Replaced since.
                return self.contents()
            self._contents = Contents.model_validate_json(text)
        return self._contents

    def _get_all(self, pipe: Any, generation: str, view: View, ids: Sequence[str]) -> None:
        for text in ids:
            pipe.hget(self._bucket(generation, view, text), text)

    def _bucket(self, generation: str, view: View, text: str) -> str:
        return f"{self._prefix}:{generation}:{view}:{_bucket_of(hash_of_id(text))}"

    def _appended_key(self, query_id: str) -> str:
        return f"{self._prefix}:appended:{query_id}"

    def _drop_if_empty(self, index: str, query_id: str) -> None:
        import redis

        key = self._appended_key(query_id)
        with self._client.pipeline(transaction=True) as pipe:
            try:
                pipe.watch(key)
                if not pipe.exists(key):
                    pipe.multi()
                    pipe.srem(index, query_id)
                    pipe.execute()
            except redis.WatchError:
                return  # An event came meanwhile.

    def _drop(self, generation: str) -> None:
        """Deletes a generation that readers no longer learn of."""
        names = [f"{view}:{bucket}" for view in VIEWS for bucket in range(_BUCKETS)]
        keys = [f"{self._prefix}:{generation}:{name}" for name in ["contents", *names]]
        self._client.unlink(*keys)


class _RedisLoader:
    def __init__(self, client: Any, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    def add(self, view: View, ids: pa.Array, rows: pa.Array) -> None:
        """Adds rows of ids, sorted by `hash_of_ids`."""
        for some_ids, some_rows in batches(ids, rows, _BATCH_ROWS):
            self._send(view, some_ids, some_rows)

    def _send(self, view: View, ids: pa.Array, rows: pa.Array) -> None:
        """Sends a command for each bucket in the protocol's form; the client packs far slower."""
        if not len(ids):
            return
        buckets = _bucket_of(hash_of_ids(ids))
        starts = np.flatnonzero(np.diff(buckets, prepend=-1))
        ends = np.append(starts[1:], len(buckets))
        arguments = pc.binary_join_element_wise(
            *_bulk_strings(ids), *_bulk_strings(rows), pa.scalar(b"", pa.large_binary())
        )
        offsets = np.frombuffer(arguments.buffers()[1], np.int64)
        content = memoryview(arguments.buffers()[2])
        commands: list[bytes | memoryview] = []
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            key = f"{self._prefix}:{view}:{buckets[start]}".encode()
            head = b"*%d\r\n$4\r\nHSET\r\n$%d\r\n%s\r\n" % (2 + 2 * (end - start), len(key), key)
            commands.append(head)
            commands.append(content[offsets[start] : offsets[end]])
        connection = self._client.connection_pool.get_connection()
        try:
            connection.send_packed_command([b"".join(commands)])
            for _ in starts:
                connection.read_response()
        except BaseException:
            connection.disconnect()  # Replies may still be due.
            raise
        finally:
            self._client.connection_pool.release(connection)


def _bulk_strings(values: pa.Array) -> list[pa.Array]:
    """Returns the parts of `$<length>` CR LF `<bytes>` CR LF."""
    content = values.cast(pa.large_binary())
    lengths = pc.binary_length(content).cast(pa.string()).cast(pa.large_binary())
    newline = pa.scalar(b"\r\n", pa.large_binary())
    return [pa.scalar(b"$", pa.large_binary()), lengths, newline, content, newline]


def _bucket_of(hashed: Any) -> Any:
    """Maps 32-bit hashes to buckets, which are consecutive ranges."""
    return hashed * _BUCKETS >> 32


def _member(event: Event) -> bytes:
    return event[1].encode() + _SEPARATOR + str(event[0]).encode()


def _event(member: bytes) -> Event:
    item, _, time = member.rpartition(_SEPARATOR)
    return int(time), item.decode()


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))
