"""TensorFlow Recommenders: a tfrs.Model with a Retrieval task, and Keras' fit.

The variant "history" has one more item of the query, as this project's model always has.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # It is written for Keras 2.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras as keras
from meter import BATCH, DIM, HIDDEN, TEMPERATURE, Data, Meter, arguments


class Tower(keras.Model):
    def __init__(self, sizes, multi=None):
        super().__init__()
        self.tables = [keras.layers.Embedding(size, DIM) for size in sizes]
        self.multi = keras.Sequential(
            [
                keras.layers.Embedding(multi, DIM, mask_zero=True),
                keras.layers.GlobalAveragePooling1D(),
            ]
        )
        self.layers_ = keras.Sequential(
            [
                keras.layers.Dense(HIDDEN[0], activation="relu"),
                keras.layers.Dense(HIDDEN[1]),
                keras.layers.Lambda(lambda x: tf.math.l2_normalize(x, axis=1)),
            ]
        )

    def embed(self, values, multi=None):
        parts = [table(values[:, place]) for place, table in enumerate(self.tables)]
        if multi is not None:
            parts.append(self.multi(multi))
        return tf.concat(parts, axis=1)

    def call(self, embedded):
        return self.layers_(embedded)


class TwoTowers(tfrs.Model):
    def __init__(self, data):
        super().__init__()
        self.query_tower = Tower([data.queries, *(data.query.max(axis=0) + 1)], 1)
        self.item_tower = Tower(
            [data.items, *(data.item.max(axis=0) + 1)], int(data.multi.max()) + 1
        )
        self.task = tfrs.tasks.Retrieval(temperature=TEMPERATURE)

    def queries(self, features):
        parts = [self.query_tower.embed(features["query"])]
        if given.variant == "history":
            parts.append(self.item_tower.embed(features["read"], features["read_multi"]))
        return self.query_tower(tf.concat(parts, axis=1))

    def items(self, features):
        return self.item_tower(self.item_tower.embed(features["item"], features["multi"]))

    def compute_loss(self, features, training=False):
        return self.task(
            self.queries(features),
            self.items(features),
            candidate_sampling_probability=features["q"],
            compute_metrics=False,
        )


given = arguments()
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
data = Data(given.data)
meter = Meter(data, given.steps, given.every, given.target)
tf.random.set_seed(0)
q = tf.constant(tf.exp(data.log_q()))
query_values, item_values = tf.constant(data.query), tf.constant(data.item)
multi_values = tf.constant(data.multi)


def features(row):
    query, item = row[:, 0], row[:, 1]
    found = {
        "query": tf.concat([query[:, None], tf.gather(query_values, query)], axis=1),
        "item": of_items(item),
        "multi": tf.gather(multi_values, item),
        "q": tf.gather(q, item),
    }
    if given.variant == "history":
        read = row[:, 2]
        found |= {"read": of_items(read), "read_multi": tf.gather(multi_values, read)}
    return found


def of_items(item):
    return tf.concat([item[:, None], tf.gather(item_values, item)], axis=1)


rows = data.train
if given.variant == "history":
    rows = np.concatenate([rows, data.another_item()[:, None]], axis=1)
examples = tf.data.Dataset.from_tensor_slices(rows).shuffle(len(rows), seed=0)
examples = examples.repeat().batch(BATCH).map(features).prefetch(2)
model = TwoTowers(data)
model.compile(optimizer=keras.optimizers.Adagrad(0.1))


class Steps(keras.callbacks.Callback):  # meter
    def on_train_batch_begin(self, batch, logs=None):  # meter
        meter.begin()

    def on_train_batch_end(self, batch, logs=None):  # meter
        self.model.stop_training = meter.step()


def vectors():
    pairs = np.zeros((max(data.queries, data.items), 3), np.int32)
    pairs[: data.queries, 0] = np.arange(data.queries)
    pairs[: data.items, 1] = np.arange(data.items)
    pairs[data.train[:, 0], 2] = data.train[:, 1]
    every = features(tf.constant(pairs))
    queries, items = model.queries(every), model.items(every)
    return queries.numpy()[: data.queries], items.numpy()[: data.items]


meter.vectors = vectors
model.fit(examples, epochs=1, steps_per_epoch=given.steps, verbose=0, callbacks=[Steps()])  # meter
meter.write(given.result, version=tfrs.__version__)
