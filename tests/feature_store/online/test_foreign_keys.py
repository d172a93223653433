"""Keys that others wrote under the prefix of a store in Redis."""

from pathlib import Path

import pytest
import redis

from feature_store.core.errors import UserError
from feature_store.online import open_online_store
from feature_store.online.features import OnlineFeatures
from feature_store.settings import FeatureStoreConfig
from tests.feature_store.online.test_stores import at, contents, fill
from tests.feature_store.online.test_stores import redis_url as redis_url

NO_TEXT = b"\xff\xfe"


def test_they_are_no_reason_to_fail_and_a_load_heals(redis_url: str, tmp_path: Path):
    settings = FeatureStoreConfig(online="redis", redis_url=redis_url, redis_prefix=str(tmp_path))
    client, prefix = redis.Redis.from_url(redis_url), settings.redis_prefix
    store = open_online_store(settings, tmp_path)
    fill(store)
    reader = OnlineFeatures(store)
    reader.append_event("q1", "i3", at(30))
    events = store.appended("q1")
    client.zadd(f"{prefix}:appended:q1", {NO_TEXT: 1, b"i2\0soon": 2, b"": 3})
    client.sadd(f"{prefix}:appended", NO_TEXT)
    assert store.appended("q1") == events
    reader.append_event("q1", "i2", at(31))
    assert len(reader.query("q1").history) == 4
    client.set(f"{prefix}:loading", NO_TEXT)
    client.set(f"{prefix}:current", NO_TEXT)
    with pytest.raises(UserError, match="names a generation that is not there"):
        store.contents()
    fill(store, "two")
    assert store.contents() == contents("two")
    store.prune(lambda query, event: True)
    assert client.zcard(f"{prefix}:appended:q1") == 2
    assert client.smembers(f"{prefix}:appended") == {b"q1"}
    store.close()
