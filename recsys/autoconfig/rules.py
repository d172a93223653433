"""The rules of thumb of `recsys init`: every number that one may want to tune, in one place."""

from dataclasses import dataclass

from recsys.config.loss import LossConfig
from recsys.config.training import TrainingConfig

# Features.

# A table's columns: 6 times the fourth root of its distinct values, between these.
SMALLEST_DIM, LARGEST_DIM = 8, 64
SMALLEST_ITEM_ID_DIM = 32
NUMBER_DIM = 8
# A string with nearly as many distinct values as rows is text when it has words, else a key.
UNIQUE_FROM = 0.8
KEY_FROM = 0.9
WORDS_FROM = 1.5
# Long strings are text even when a good part of them repeats.
LONG_TEXT_WORDS, LONG_TEXT_UNIQUE_FROM = 4.0, 0.3
# Strings such as `Drama|Comedy`.
JOINED_FROM = 0.2
# Whole numbers with at most so many distinct values, each on several rows, are categories.
CATEGORIES_UP_TO = 100
CATEGORY_ROWS_FROM = 4
# Strings of digits are codes more often than measures.
DIGIT_CATEGORIES_UP_TO = 1_000
# Values of lists that nearly never repeat cannot be learnt.
SINGLES_UP_TO = 0.9
# Rare values share one row where a table is large and most of it would be seen once.
RARE_FROM, RARE_SHARE_FROM, RARE_MIN_COUNT = 500, 0.5, 2
MAX_VOCABULARY = 1_000_000
HASHED_FROM, HASH_BUCKETS = 2_000_000, 2_097_152
# Numbers that are this skewed, or that span so many powers of ten, are not scaled linearly.
SKEWNESS_FROM, ORDERS_OF_MAGNITUDE_FROM = 2.0, 3
LONGEST_VECTOR = 16_384
# Queries are items where so many of their ids are and, where ids are numbers, so many of these have
# the same values in both tables.
QUERIES_ARE_ITEMS_FROM, SAME_VALUES_FROM = 0.5, 0.95
# Training events that a query needs (in the median) for an embedding of its own.
QUERY_ID_EVENTS_FROM = 5

# Split and history.

ITEM_ORDER_FROM = 0.95
TIES_FROM, TIES_WARNED_FROM = 0.9, 0.1
SYNTHETIC_FROM = 0.8
# Without a real clock: neighbours in the same order in more than this share of queries are in an
# order of the items' own. Both tests of neighbours are at this probability of error.
SAME_ORDER_FROM, ORDER_P = 0.95, 1e-4
KNOWN_QUERIES_FROM = 0.5
LEAVE_LAST_OUT_EVENTS_FROM = 3
SHORTEST_HISTORY, LONGEST_HISTORY, UNKNOWN_HISTORY = 10, 100, 50

# Training.

RAY_FROM_EVENTS, RAY_WORKERS = 20_000, 2
OTHERS_HISTORY_DROPOUT = 0.3
# Events in no order are many for a query, and many of what was not seen would be right, too.
TEMPERATURE_OF_OTHERS = 0.1
_BATCH_SIZES = ((50_000, 256), (500_000, 512), (5_000_000, 1024))
_LARGE_BATCH = 4096
_EPOCHS = ((200_000, 40), (1_000_000, 20), (5_000_000, 6), (50_000_000, 2))
_DROPOUTS = ((1_000_000, 0.3), (10_000_000, 0.1))
_WEIGHT_DECAYS = ((1_000_000, 0.01),)


@dataclass(frozen=True)
class Size:
    """How large a problem is.

    Args:
        events: All events.
        training_events: Those left for training by the split.
        items: Items of the corpus.
    """

    events: int
    training_events: int
    items: int


def _first_above(steps: tuple[tuple[int, float], ...], size: int, otherwise: float) -> float:
    return next((value for limit, value in steps if size < limit), otherwise)


def embedding_dim(distinct: int, smallest: int = SMALLEST_DIM) -> int:
    """Columns of an embedding table for so many distinct values, a multiple of 4."""
    return min(max(4 * round(6 * distinct**0.25 / 4), smallest), LARGEST_DIM)


def vector_dim(length: int) -> int:
    """Columns that a vector is projected to."""
    return min(max(4 * round(length / 4), SMALLEST_DIM), LARGEST_DIM)


def min_rating(smallest: float, largest: float) -> float:
    """The rating from which people like a thing, in halves: 4 of 1 to 5."""
    return round(2 * (smallest + 0.75 * (largest - smallest))) / 2


def history_length(p90: float) -> int:
    """Events of a history, from the 90th percentile of the events of a query."""
    return int(min(max(round(p90), SHORTEST_HISTORY), LONGEST_HISTORY))


def model_dim(size: Size) -> int:
    """Length of query and item vectors."""
    return 64 if size.items < 1_000 else 128


def tower(size: Size) -> tuple[int, ...]:
    """Hidden layers of both towers."""
    return (256,) if size.events > 1_000_000 or size.items > 100_000 else (128,)


def dropout(size: Size) -> float:
    """Of the towers; small data overfit within a few epochs."""
    return _first_above(_DROPOUTS, size.training_events, 0.0)


def batch_size(size: Size) -> int:
    """Examples a step."""
    return int(_first_above(_BATCH_SIZES, size.training_events, _LARGE_BATCH))


def epochs(size: Size) -> int:
    """Epochs at most; training stops early without gain."""
    return int(_first_above(_EPOCHS, size.training_events, 1))


def weight_decay(size: Size) -> float:
    """Of AdamW."""
    return _first_above(_WEIGHT_DECAYS, size.training_events, 0.0)


def learning_rates(size: Size) -> tuple[float, float]:
    """Sparse and dense; they grow with the square root of the batch beyond 1024."""
    defaults = TrainingConfig()
    factor = (max(batch_size(size), 1024) / 1024) ** 0.5
    return defaults.sparse_learning_rate * factor, defaults.dense_learning_rate * factor


def id_dropout(item_features: int) -> float:
    """Hiding the id of an item that has nothing else would leave nothing."""
    return LossConfig().id_dropout if item_features > 1 else 0.0
