"""The processes of a training: what each sets up, and that all are told the same."""

import logging
import os
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch
import torch.distributed as dist

from feature_store.core.errors import UserError
from feature_store.core.manifests import fingerprint
from pipelines.prepared.reader import Prepared
from recsys.config.config import Config
from recsys.data.plan import TrainingPlan


def silence_torchrec() -> None:
    """Its planner and deprecations write pages that a user can do nothing about."""
    for name in ("torchrec", "torch.fx._symbolic_trace"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torchrec")
    warnings.filterwarnings("ignore", "`torch.distributed", category=FutureWarning)
    # Of replicated tables, whose gradients are right: the parity tests compare them.
    warnings.filterwarnings("ignore", "fbgemm::dense_embedding", category=UserWarning)
    warnings.filterwarnings("ignore", message="Please use DTensor", category=FutureWarning)


def use_cores(ranks_on_machine: int) -> None:
    """Shares the machine's cores between its ranks."""
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks_on_machine))


def check_ranks_agree(
    config: Config, prepared: Prepared, plan: TrainingPlan, checkpoint: str | None
) -> None:
    """Compares what the ranks know before they begin; a collective call.

    Ranks that differ would train on batches of different examples, or wait for each other for ever.

    Args:
        config: Of this rank.
        prepared: The data that this rank sees.
        plan: The order of examples.
        checkpoint: The name of the one that this rank would go on from.

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
