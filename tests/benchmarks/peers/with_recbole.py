"""RecBole's DSSM, its two-tower model: a score of each pair, with one sampled negative."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import recbole
import torch
from meter import BATCH, DIM, HIDDEN, Data, Meter, arguments
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.model.context_aware_recommender import DSSM
from recbole.trainer import Trainer, trainer
from recbole.utils import init_seed

given = arguments()
sys.argv = sys.argv[:1]  # RecBole reads the command line, too. meter
torch.set_num_threads(1)
data = Data(given.data)
meter = Meter(data, given.steps, given.every, given.target)
folder = Path(tempfile.mkdtemp()) / "log"
folder.mkdir()
user_names, item_names = data.names["query"], data.names["item"]
pairs = pd.DataFrame({"user_id:token": data.train[:, 0], "item_id:token": data.train[:, 1]})
pairs.to_csv(folder / "log.inter", sep="\t", index=False)
users = pd.DataFrame(data.query, columns=[f"{name}:token" for name in user_names])
users.insert(0, "user_id:token", range(data.queries))
users.to_csv(folder / "log.user", sep="\t", index=False)
items = pd.DataFrame(data.item, columns=[f"{name}:token" for name in item_names])
items.insert(0, "item_id:token", range(data.items))
items["multi:token_seq"] = [" ".join(map(str, row[row > 0])) for row in data.multi]
items.to_csv(folder / "log.item", sep="\t", index=False)
config = Config(
    model="DSSM",
    dataset="log",
    config_dict={
        "data_path": str(folder.parent),
        "checkpoint_dir": str(folder.parent),
        "load_col": {
            "inter": ["user_id", "item_id"],
            "user": ["user_id", *user_names],
            "item": ["item_id", *item_names, "multi"],
        },
        "embedding_size": DIM,
        "mlp_hidden_size": list(HIDDEN),
        "dropout_prob": 0.0,
        "train_neg_sample_args": {
            "distribution": "uniform",
            "sample_num": 1,
            "dynamic": False,
            "candidate_num": 0,
        },
        "train_batch_size": 2 * BATCH,  # Each example and its negative.
        "eval_args": {"split": {"RS": [1, 0, 0]}, "order": "RO", "group_by": None, "mode": "full"},
        "metrics": ["Recall"],
        "valid_metric": "Recall@10",
        "use_gpu": False,
        "state": "ERROR",
    },
)
init_seed(0, True)
dataset = create_dataset(config)
train_data, _, _ = data_preparation(config, dataset)
model = DSSM(config, train_data.dataset)
training = Trainer(config, model)
trainer.tqdm = lambda batches, **_: meter.over(batches)


def vectors():
    """Encodes queries and items as pairs, whose rows the data set joins with their features."""
    rows = np.arange(max(data.queries, data.items))
    users = dataset.token2id("user_id", (rows % data.queries).astype(str))
    items = dataset.token2id("item_id", (rows % data.items).astype(str))
    joined = dataset.join(
        Interaction({"user_id": torch.from_numpy(users), "item_id": torch.from_numpy(items)})
    )
    model.eval()
    with torch.no_grad():
        embedded = model.double_tower_embed_input_fields(joined)
        towers = model.user_mlp_layers, model.item_mlp_layers
        queries, items = (
            torch.nn.functional.normalize(tower(part.flatten(1))).numpy()
            for tower, part in zip(towers, embedded[::2], strict=True)
        )
    model.train()
    return queries[: data.queries], items[: data.items]


meter.vectors = vectors
while not meter.is_done:
    training._train_epoch(train_data, 0, show_progress=True)
meter.write(given.result, version=recbole.__version__)
