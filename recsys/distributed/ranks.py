"""The processes of a training: a check that all of them see the same."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch.distributed as dist

from feature_store.core.errors import UserError
from feature_store.core.manifests import fingerprint
from pipelines.prepared.reader import Prepared
from recsys.config.config import Config
from recsys.data.plan import TrainingPlan


def check_ranks_agree(
    config: Config, prepared: Prepared, plan: TrainingPlan, checkpoint: str | None
) -> None:
    """Compares what the ranks know before they begin; a collective call.

    Ranks that differ would train on batches of different examples, or wait for each other for ever.

    Args:
        config: Configuration of this rank.
        prepared: Data that this rank sees.
        plan: Order of the examples.
        checkpoint: Name of the checkpoint that this rank would resume from.

    Raises:
        UserError: On every rank, where one of them differs.
    """
    facts = {
        "configuration": fingerprint(config.model_dump(mode="json")),
        "prepared data": prepared.manifest.fingerprint,
        "order of examples": plan.identity,
        "latest checkpoint": checkpoint or "none",
        "version of torch": version("torch"),
        "version of torchrec": version("torchrec"),
    }
    every: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(every, facts)
    check_equal_facts(every)


def check_equal_facts(facts_of_ranks: list[Mapping[str, str]]) -> None:
    """Raises a UserError that names the first rank that differs from rank 0, and in what."""
    first = facts_of_ranks[0]
    for rank, facts in enumerate(facts_of_ranks):
        for name, value in facts.items():
            if value != first[name]:
                raise UserError(
                    f"rank {rank} has another {name} than rank 0 ({value} instead of "
                    f"{first[name]}): all workers must see the same output directory, and run the "
                    "same code and configuration."
                )
