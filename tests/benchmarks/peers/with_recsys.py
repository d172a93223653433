"""This project; the variant names a configuration beside the data."""

import tempfile
from contextlib import closing
from pathlib import Path

import torch
from meter import Data, Meter, arguments

from pipelines.prepared.reader import Prepared
from recsys.config.load import load_config
from recsys.data.builder import BatchBuilder
from recsys.data.loader import in_process_batches
from recsys.model.encode import encode_items, encode_queries
from recsys.training import rank
from recsys.training.launch import single_process_group
from recsys.training.run import plan_run
from recsys.training.trainer import Trainer


def main() -> None:
    """Trains as `recsys train` does, until the meter has enough."""
    given = arguments()
    torch.set_num_threads(1)
    data = Data(given.data)
    meter = Meter(data, given.steps, given.every, given.target)
    config = load_config(given.data / f"{given.variant}.yaml")
    prepared, device = Prepared(config.prepared_dir), torch.device("cpu")
    build = rank._build_trainer

    def building(*parts):
        trainer: Trainer = build(*parts)
        builder, queries = BatchBuilder(prepared, config), torch.arange(data.queries).numpy()
        history = prepared.query_state.validation_history

        def vectors():
            items = encode_items(trainer.model, builder, device)
            return encode_queries(trainer.model, builder, queries, history, {}, device), items

        meter.vectors = vectors
        return trainer

    def source(*plan):
        with closing(in_process_batches(*plan)) as batches:
            yield from meter.over(batches)

    rank._build_trainer = building  # Nothing else sees the model while it trains.
    with tempfile.TemporaryDirectory() as name, single_process_group(device):
        run, _ = plan_run(config, prepared, Path(name))
        rank.train_on_rank(run, device, source)
    meter.write(given.result, version="this commit")


if __name__ == "__main__":
    main()
