"""LibRecommender's TwoTower; the variant is its `ssl_pattern`, or empty."""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # It is written for Keras 2.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import libreco
import numpy as np
import pandas as pd
from libreco.algorithms import TwoTower
from libreco.data import DatasetFeat
from libreco.training import tf_trainer
from meter import BATCH, DIM, HIDDEN, TEMPERATURE, Data, Meter, arguments

given = arguments()
data = Data(given.data)
meter = Meter(data, given.steps, given.every, given.target)
# TwoTower has no pooling: each combination of values is a value of its own.
combination = pd.factorize(pd.Series(map(bytes, data.multi)))[0]
query, item = data.train.T
frame = pd.DataFrame({"user": query, "item": item, "label": 1})
for place, name in enumerate(data.names["query"]):
    frame[name] = data.query[query, place]
for place, name in enumerate(data.names["item"]):
    frame[name] = data.item[item, place]
frame["combination"] = combination[item]
user_col, item_col = data.names["query"], [*data.names["item"], "combination"]
train_data, info = DatasetFeat.build_trainset(
    frame, user_col=user_col, item_col=item_col, sparse_col=[*user_col, *item_col]
)
del frame
model = TwoTower(
    "ranking",
    info,
    loss_type="softmax",
    embed_size=DIM,
    norm_embed=True,
    n_epochs=100,
    batch_size=BATCH,
    hidden_units=HIDDEN,
    use_bn=False,
    temperature=TEMPERATURE,
    ssl_pattern=given.variant or None,
    tf_sess_config={"intra_op_parallelism_threads": 1, "inter_op_parallelism_threads": 1},
)
tf_trainer.tqdm = lambda batches, **_: meter.over(batches)


def vectors():
    """Returns the vectors in the order of the data; items that it never saw have none."""
    model.set_embeddings()
    queries, items = np.zeros((data.queries, HIDDEN[1])), np.zeros((data.items, HIDDEN[1]))
    queries[list(info.user2id)] = model.user_embeds_np[list(info.user2id.values())]
    items[list(info.item2id)] = model.item_embeds_np[list(info.item2id.values())]
    return queries, items


meter.vectors = vectors
model.fit(train_data, neg_sampling=True, verbose=0)
meter.write(given.result, version=libreco.__version__)
