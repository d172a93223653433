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
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from feature_store.core.errors import UserError
from feature_store.core.hashing import hash_of_id, hash_of_ids
from feature_store.online.store import (
    VIEWS,
    BrokenStoreError,
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
# Attempts at a read or a write while other clients change the same keys.
_ATTEMPTS = 50
_SEPARATOR = b"\0"


class RedisStore:
    """The store in Redis; see `OnlineStore`.

    Args:
        url: Address of the server, without a password.
        prefix: Prefix of all keys.
        patience: Seconds to wait for an answer; None: `_ANSWER_SECONDS`, a few times.

    Raises:
        UserError: The server does not answer.
    """

    def __init__(self, url: str, prefix: str, patience: float | None = None) -> None:
        import redis
        from redis.backoff import ExponentialBackoff
        from redis.retry import Retry

        self._prefix = prefix
        self._contents: Contents | None = None
        # The client's annotations are also those of the asynchronous client.
        self._client: Any = redis.Redis.from_url(
            url,
            password=os.environb.get(PASSWORD_VARIABLE.encode()),
            # A server that hangs must not block its clients.
            socket_connect_timeout=min(patience or _CONNECT_SECONDS, _CONNECT_SECONDS),
            socket_timeout=patience or _ANSWER_SECONDS,
            # A connection that the server has closed is opened anew, even in a hurry.
            retry=Retry(ExponentialBackoff(cap=0.1, base=0.02), retries=1 if patience else 2),
        )
        self._url = _without_user(url)
        with self._asking():
            self._client.ping()

    def contents(self) -> Contents | None:
        """Returns the description of the current generation."""
        with self._asking():
            for _ in range(_ATTEMPTS):
                generation = self._client.get(f"{self._prefix}:current")
                if generation is None:
                    return None
                contents = self._contents_of(_text(generation))
                if contents is not None:
                    return contents
        raise self._broken(f"{self._prefix}:current names a generation that is not there")

    def count_rows(self) -> dict[View, int]:
        """Counts the rows of the current generation."""

        def ask(pipe: Any, generation: str) -> None:
            for view in VIEWS:
                for bucket in range(_BUCKETS):
                    pipe.hlen(f"{self._prefix}:{generation}:{view}:{bucket}")

        _, sizes = self._at_current(ask)
        return {
            view: sum(sizes[at * _BUCKETS : (at + 1) * _BUCKETS]) for at, view in enumerate(VIEWS)
        }

    def read(self, view: View, ids: Sequence[str]) -> tuple[Contents, list[bytes | None]]:
        """Reads rows of a view; None where there is none."""
        contents, rows = self._at_current(lambda pipe, g: self._get_all(pipe, g, view, ids))
        return contents, rows

    def read_queries(self, query_ids: Sequence[str]) -> list[StoredQuery]:
        """Reads everything about some queries, of one generation, at once."""

        def ask(pipe: Any, generation: str) -> None:
            self._get_all(pipe, generation, "query_features", query_ids)
            self._get_all(pipe, generation, "query_history", query_ids)
            for query_id in query_ids:
                pipe.zrange(self._appended_key(query_id), 0, -1)

        contents, replies = self._at_current(ask)
        size = len(query_ids)
        return [
            StoredQuery(contents, features, history, _events(appended))
            for features, history, appended in zip(
                replies[:size], replies[size : 2 * size], replies[2 * size :], strict=True
            )
        ]

    def append(self, events: Sequence[tuple[str, Event]]) -> None:
        """Adds events of queries, all or none, unless they are there."""
        import redis

        contents = self._require_contents()
        added: dict[str, list[Event]] = {}
        for query_id, event in events:
            added.setdefault(query_id, []).append(event)
        with self._asking():
            for _ in range(_ATTEMPTS):
                with self._client.pipeline(transaction=True) as pipe:
                    try:
                        self._append(pipe, added, contents)
                        return
                    except redis.WatchError:
                        continue  # Another client appended to one of the queries.
            raise redis.WatchError("other clients append to the same queries all the time")

    def _append(self, pipe: Any, added: dict[str, list[Event]], contents: Contents) -> None:
        keys = {query_id: self._appended_key(query_id) for query_id in added}
        pipe.watch(*keys.values())
        before = {q: _events(pipe.zrange(keys[q], 0, -1)) for q in added}
        pipe.multi()
        for query_id, new in added.items():
            latest = set(latest_events([*before[query_id], *new], contents))
            kept = {_member(event): event[0] for event in new if event in latest}
            gone = [_member(event) for event in set(before[query_id]) - latest]
            if kept:
                pipe.zadd(keys[query_id], kept)
                pipe.sadd(f"{self._prefix}:appended", query_id)
            if gone:
                pipe.zrem(keys[query_id], *gone)
        pipe.execute()

    def appended(self, query_id: str) -> list[Event]:
        """Returns the events that were appended to a query."""
        with self._asking():
            members = self._client.zrange(self._appended_key(query_id), 0, -1)
        return _events(members)

    def prune(self, keep: Keep) -> str | None:
        """Removes the appended events that are not kept."""
        index = f"{self._prefix}:appended"
        with self._asking():
            for name in self._client.sscan_iter(index, count=1000):
                query_id, key = _text(name), self._appended_key("").encode() + name
                gone = [
                    member
                    for member in self._client.zrange(key, 0, -1)
                    if not any(keep(query_id, event) for event in _events([member]))
                ]
                if gone:
                    self._client.zrem(key, *gone)
                self._drop_if_empty(index, name, key)
        return None

    @contextmanager
    def load(self, contents: Contents) -> Iterator["_RedisLoader"]:
        """Begins a new generation."""
        with self._asking():
            before = self._client.get(f"{self._prefix}:current")
            unfinished = self._client.get(f"{self._prefix}:loading")
            if unfinished is not None and unfinished != before:
                self._drop(_text(unfinished))  # It was left by a killed run.
            generation = contents.generation
            self._client.set(f"{self._prefix}:loading", generation)
            yield _RedisLoader(self._client, f"{self._prefix}:{generation}")
            key = f"{self._prefix}:{generation}:contents"
            self._client.set(key, contents.model_dump_json())
            self._client.set(f"{self._prefix}:current", generation)
            self._client.delete(f"{self._prefix}:loading")
            if before is not None:
                self._drop(_text(before))

    def update(self, view: View, ids: Sequence[str], rows: Sequence[bytes]) -> None:
        """Replaces single rows of the current generation."""
        generation = self._require_contents().generation
        with self._asking(), self._client.pipeline(transaction=False) as pipe:
            for text, row in zip(ids, rows, strict=True):
                pipe.hset(self._bucket(generation, view, text), text, row)
            pipe.execute()

    def clear(self) -> None:
        """Removes everything."""
        with self._asking():
            generation = self._client.get(f"{self._prefix}:current")
            if generation is not None:
                self._client.delete(f"{self._prefix}:current")
                self._drop(_text(generation))
        self.prune(lambda query_id, event: False)

    def close(self) -> None:
        """Closes its connections."""
        self._client.close()

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Turns the client's errors into sentences.

        Raises:
            UserError: The server does not answer, or refuses.
        """
        import redis

        try:
            yield
        except redis.ConnectionError as error:  # Wrong passwords are among them.
            raise self._silent(error) from error
        except redis.TimeoutError as error:
            raise self._silent(error) from error
        except redis.RedisError as error:
            raise UserError(
                f"Redis at {self._url} refuses ({error}); correct its settings, or what the keys "
                f"{self._prefix}:* hold."
            ) from error

    def _silent(self, error: Exception) -> UserError:
        return UserError(
            f"Redis at {self._url} does not answer ({type(error).__name__}); start it, correct "
            f"feature_store.redis_url, or set {PASSWORD_VARIABLE}."
        )

    def _broken(self, fault: str) -> BrokenStoreError:
        return BrokenStoreError(
            f"Redis at {self._url} does not hold a whole online store ({fault}); run "
            "`recsys materialize`, which writes a new one."
        )

    def _at_current(self, ask: Any) -> tuple[Contents, list[Any]]:
        """Reads the generation that was current last time, and reads again if it no longer is."""
        contents = self._contents or self._require_contents()
        with self._asking():
            for _ in range(_ATTEMPTS):
                with self._client.pipeline(transaction=True) as pipe:
                    pipe.get(f"{self._prefix}:current")
                    ask(pipe, contents.generation)
                    generation, *replies = pipe.execute()
                if generation is not None and _text(generation) == contents.generation:
                    return contents, replies
                contents = self._require_contents()
        raise self._broken("it is replaced all the time")

    def _require_contents(self) -> Contents:
        contents = self.contents()
        if contents is None:
            raise nothing_materialized()
        return contents

    def _contents_of(self, generation: str) -> Contents | None:
        """Reads the description of a generation; None where it was replaced meanwhile."""
        if self._contents is None or self._contents.generation != generation:
            text = self._client.get(f"{self._prefix}:{generation}:contents")
            if text is None:
                return None
            try:
                self._contents = Contents.model_validate_json(text)
            except ValidationError as error:
                raise self._broken("its description is of another version") from error
        return self._contents

    def _get_all(self, pipe: Any, generation: str, view: View, ids: Sequence[str]) -> None:
        for text in ids:
            pipe.hget(self._bucket(generation, view, text), text)

    def _bucket(self, generation: str, view: View, text: str) -> str:
        return f"{self._prefix}:{generation}:{view}:{_bucket_of(hash_of_id(text))}"

    def _appended_key(self, query_id: str) -> str:
        return f"{self._prefix}:appended:{query_id}"

    def _drop_if_empty(self, index: str, name: bytes, key: bytes) -> None:
        import redis

        with self._client.pipeline(transaction=True) as pipe:
            try:
                pipe.watch(key)
                if not pipe.exists(key):
                    pipe.multi()
                    pipe.srem(index, name)
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


def _events(members: Sequence[bytes]) -> list[Event]:
    """Returns the events among members of a sorted set; others may write to the server, too."""
    events = []
    for member in members:
        item, _, time = member.rpartition(_SEPARATOR)
        with suppress(ValueError):
            events.append((int(time), item.decode()))
    return events


def _text(name: bytes) -> str:
    """Returns a name; of one that is not UTF-8, which is none of ours, one that nothing has."""
    return name.decode(errors="replace")


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))
