"""Rules of thumb of `recsys init`: every number that one may want to tune, in one place."""

from dataclasses import dataclass

from recsys.config.evaluation import CUTOFFS, SelectBy
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
# Largest number of distinct whole numbers, each on several rows, that are categories.
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
# Skewness and powers of ten from which numbers are not scaled linearly.
SKEWNESS_FROM, ORDERS_OF_MAGNITUDE_FROM = 2.0, 3
# Standard deviations from the mean where a number is an outlier, such as an age of 239.
OUTLIER_FROM = 10.0
LONGEST_VECTOR = 16_384
# Fraction of query ids that are item ids, from which queries are items; where ids are numbers, also
# the fraction of them with the same value in both tables, and the probability of such by chance.
QUERIES_ARE_ITEMS_FROM, SAME_VALUES_FROM, SAME_BY_CHANCE_P = 0.5, 0.95, 1e-6
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
# Share of held-out pairs whose query had the item before, from which these are what it comes for.
REPEATS_FROM = 0.2
SHORTEST_HISTORY, LONGEST_HISTORY, UNKNOWN_HISTORY = 10, 100, 50

# Training.

# Part of older examples in a training that goes on; docs/operations.md has the month that it is of.
REPLAY = 0.5

OTHERS_HISTORY_DROPOUT = 0.3
# Queries without an order have many events, and many items that they have not seen fit them, too.
TEMPERATURE_OF_OTHERS = 0.1
_BATCH_SIZES = ((50_000, 256), (500_000, 512), (5_000_000, 1024))
_LARGE_BATCH = 4096
_EPOCHS = ((200_000, 40), (1_000_000, 20), (5_000_000, 6), (50_000_000, 2))
_DROPOUTS = ((1_000_000, 0.3), (10_000_000, 0.1))
_WEIGHT_DECAYS = ((1_000_000, 0.01),)
# Learning rate of the tables. With averaged weights 0.2 finds as much as 0.05 or more, in fewer
# epochs, on logs of 100 thousand to a million events.
_SPARSE_RATE = 0.2
# Validations over which weights are averaged; half of one and one find less (docs/results.md).
AVERAGING = 2.0


# Evaluation.

# Cutoffs are well below the number of items: with fewer than 5 times 50, almost every ranking has
# the held-out item in its first 50, and only an order within the first tells models apart.
_RECALL_50_FROM, _SMALL_CATALOGUE = 250, 100
# A training of a few long epochs, or on single visits, may be at its best before the first is over:
# it is validated so often in its first two epochs, but not more often than at so many steps.
_EARLY_VALIDATIONS, _LONG_EPOCHS, _STEPS_BETWEEN = 8, 6, 20
# The fewer pairs are held out, the longer validation stays the same before it improves.
_PATIENCE = ((50, 10), (500, 5))


@dataclass(frozen=True)
class Size:
    """Size of a problem.

    Args:
        events: Number of all events.
        training_events: Number of events that the split leaves for training.
        validation_events: Number of events that it holds out for validation.
        items: Number of items of the corpus.
        single_visits: Whether most queries have one event, as single visits to a shop do.
    """

    events: int
    training_events: int
    validation_events: int
    items: int
    single_visits: bool = False


def _first_above(steps: tuple[tuple[int, float], ...], size: int, otherwise: float) -> float:
    return next((value for limit, value in steps if size < limit), otherwise)


def embedding_dim(distinct: int, smallest: int = SMALLEST_DIM) -> int:
    """Returns the columns of an embedding table for a number of distinct values."""
    return min(max(4 * round(6 * distinct**0.25 / 4), smallest), LARGEST_DIM)


def vector_dim(length: int) -> int:
    """Returns the columns that a vector is projected to."""
    return min(max(4 * round(length / 4), SMALLEST_DIM), LARGEST_DIM)


def min_rating(smallest: float, largest: float) -> float:
    """Returns the rating from which people like an item, in halves: 4 of 1 to 5."""
    return round(2 * (smallest + 0.75 * (largest - smallest))) / 2


def history_length(p90: float) -> int:
    """Returns the length of histories, from the 90th percentile of the events of a query."""
    return int(min(max(round(p90), SHORTEST_HISTORY), LONGEST_HISTORY))


def model_dim(size: Size) -> int:
    """Returns the length of query and item vectors."""
    return 64 if size.items < 1_000 else 128


def tower(size: Size) -> tuple[int, ...]:
    """Returns the widths of the hidden layers of both towers."""
    return (256,) if size.events > 1_000_000 or size.items > 100_000 else (128,)


def dropout(size: Size) -> float:
    """Returns the dropout of the towers; small data overfit within a few epochs."""
    return _first_above(_DROPOUTS, size.training_events, 0.0)


def batch_size(size: Size) -> int:
    """Returns the examples a step."""
    return int(_first_above(_BATCH_SIZES, size.training_events, _LARGE_BATCH))


def epochs(size: Size) -> int:
    """Returns the largest number of epochs; training stops early without improvement."""
    return int(_first_above(_EPOCHS, size.training_events, 1))


def weight_decay(size: Size) -> float:
    """Returns the weight decay of AdamW."""
    return _first_above(_WEIGHT_DECAYS, size.training_events, 0.0)


def learning_rates(size: Size) -> tuple[float, float]:
    """Returns the sparse and the dense rate, which grow with the root of batches above 1024."""
    defaults = TrainingConfig()
    factor = (max(batch_size(size), 1024) / 1024) ** 0.5
    return _SPARSE_RATE * factor, defaults.dense_learning_rate * factor


def id_dropout(item_features: int) -> float:
    """Returns the id dropout; none where items have nothing but their id."""
    return LossConfig().id_dropout if item_features > 1 else 0.0


def select_by(size: Size) -> SelectBy:
    """Returns the metric of the selection, which must differ from model to model."""
    return "recall@50" if size.items >= _RECALL_50_FROM else "ndcg@10"


def cutoffs(size: Size) -> tuple[int, ...]:
    """Returns the cutoffs of the metrics, with ones that are far below the number of items."""
    return CUTOFFS if size.items >= _SMALL_CATALOGUE else (1, 5, *CUTOFFS)


def validations_per_epoch(size: Size) -> int:
    """Returns the validations in each epoch: one, but where an epoch is much of the training."""
    if epochs(size) > _LONG_EPOCHS and not size.single_visits:
        return 1
    wanted = -(-_EARLY_VALIDATIONS // min(2, epochs(size)))
    steps = size.training_events // batch_size(size)
    return max(1, min(wanted, steps // _STEPS_BETWEEN))


def patience(size: Size) -> int:
    """Returns the validations without improvement after which training stops; at least an epoch."""
    usual = TrainingConfig().patience
    few = int(_first_above(_PATIENCE, size.validation_events, usual))
    return max(few, validations_per_epoch(size))
