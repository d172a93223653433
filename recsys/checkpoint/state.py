"""Tensors of a checkpoint: taken from a sharded model, and loaded into one of any sharding.

    model.<parameter or buffer>               the objective: weights, logQ estimator
    average.model.<parameter or buffer>       the towers' averaged weights, where they are averaged
    optimizer.<parameter>.<state>             both optimizers

Each rank reads the chunks of the values that it needs, so that most shardings need no conversion.
The exception is the row-wise state of an optimizer, one number for each row, which column-wise
sharding keeps for each part of the columns; see `RowState`.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata
from torchrec.distributed import DistributedModelParallel
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizerWrapper

from feature_store.core.columns import Ints
from feature_store.core.errors import UserError
from recsys.checkpoint.manifest import Checkpoint, damage_of
from recsys.checkpoint.metadata import require_plain_metadata
from recsys.checkpoint.row_state import MODEL, OPTIMIZER, Saved, State, row_state, shards_of
from recsys.distributed.optimizers import TABLES

_WEIGHT = ".weight"
# Prefix of the towers' tensors in a checkpoint; other tensors belong to the losses.
TOWERS = f"{MODEL}model."
# Prefix of averages, before the names of the weights.
AVERAGE = "average."


def checkpoint_state(sharded: DistributedModelParallel, optimizer: CombinedOptimizer) -> State:
    """Returns every tensor of the model and the optimizers, by name; not copies.

    The number of steps of a table's optimizer is left out: it follows from the checkpoint's step.
    """
    state = {f"{MODEL}{name}": value for name, value in sharded.state_dict().items()}
    for parameter, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            name = _state_name(parameter, key)
            if isinstance(value, Tensor) and name is not None:
                state[f"{OPTIMIZER}{parameter}.{name}"] = value
    return state


def restore(
    checkpoint: Checkpoint,
    sharded: DistributedModelParallel,
    optimizer: CombinedOptimizer,
    average: State | None = None,
) -> None:
    """Loads a checkpoint into a sharded model and its optimizers; a collective call.

    Args:
        checkpoint: Checkpoint to load.
        sharded: The same model, under any sharding and number of ranks.
        optimizer: Optimizer of all its parameters.
        average: Tensors of the averaged weights, by name, to load into; None: there are none.

    Raises:
        UserError: The checkpoint is damaged, or it is of another model.
    """
    _load_all(checkpoint, sharded, optimizer, average, is_warm_start=False)


def warm_start(
    checkpoint: Checkpoint,
    sharded: DistributedModelParallel,
    optimizer: CombinedOptimizer,
    unknown: Mapping[str, Ints],
) -> None:
    """Loads a checkpoint as `restore` does, into a model whose tables may have more rows.

    New rows stay as they are, with the state of their optimizer, and so do rows that mean something
    else than in the checkpoint, and state of the losses that the checkpoint does not have.

    Args:
        checkpoint: Checkpoint to load.
        sharded: A new model.
        optimizer: Optimizer of all its parameters.
        unknown: Rows that the checkpoint knows nothing of, by the name of their table; see
            `unknown_rows`.

    Raises:
        UserError: The checkpoint is damaged, or it is of another model.
    """
    state = checkpoint_state(sharded, optimizer)
    fresh = [kept for name in state for kept in _rows_of(name, state, unknown)]
    _load_all(checkpoint, sharded, optimizer, None, is_warm_start=True)
    for part, index, values in fresh:
        part[index] = values


def _load_all(
    checkpoint: Checkpoint,
    sharded: DistributedModelParallel,
    optimizer: CombinedOptimizer,
    average: State | None,
    *,
    is_warm_start: bool,
) -> None:
    path, manifest = checkpoint
    fault = damage_of(path, manifest)
    if fault is not None:
        raise UserError(f"{path} is damaged ({fault}); restore it, or train from scratch.")
    require_plain_metadata(path)
    for _, part in optimizer.optimizers:
        if isinstance(part, KeyedOptimizerWrapper):
            part.init_state()  # A dense optimizer creates its state only in its first step.
    state = checkpoint_state(sharded, optimizer) | (average or {})
    saved: Saved = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
    rows = [rows for name in state if (rows := row_state(name, state, saved)) is not None]
    for each in rows:
        del state[each.name]
    if is_warm_start:
        state = {name: value for name, value in state.items() if not _is_fresh(name, value, saved)}
    _check_shapes(state, saved, path, is_warm_start)
    _load(state, path)
    for each in rows:
        values = torch.zeros(saved[each.name].size)
        _load({each.name: values}, path)
        each.fill(values)
    _set_table_steps(optimizer, manifest.progress.schedule_step)


def load_weights(path: Path, model: nn.Module, *, may_grow: bool = False) -> None:
    """Loads the weights of the towers alone, in this process alone: averaged ones where there are.

    Args:
        path: Directory of the checkpoint.
        model: Model to load into, unsharded.
        may_grow: Whether tables may have more rows than in the checkpoint, which stay as they are.

    Raises:
        UserError: The checkpoint holds more than tensors, or its metadata is damaged.
    """
    require_plain_metadata(path)
    saved = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
    names = {f"{TOWERS}{name}": value for name, value in model.state_dict().items()}
    state = {
        (averaged if (averaged := f"{AVERAGE}{name}") in saved else name): value
        for name, value in names.items()
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        planner = _GrowingPlanner() if may_grow else None
        dcp.load(state, checkpoint_id=path, planner=planner, no_dist=True)


@torch.no_grad()
def _rows_of(
    name: str, state: State, wanted: Mapping[str, Ints]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yields rows of a table or of its optimizer's state: each local part, indices, values."""
    parameter, _, table = name.partition(TABLES)
    table = table.partition(_WEIGHT)[0]
    if table not in wanted:
        return
    weight = f"{parameter.replace(OPTIMIZER, MODEL, 1)}{TABLES}{table}{_WEIGHT}"
    total = state[weight].size()[0]
    for part, offset in shards_of(state[name]):
        begin = offset % total
        rows = torch.from_numpy(wanted[table]).to(part.device)
        index = rows[(rows >= begin) & (rows < begin + len(part))] - begin
        yield part.detach(), index, part.detach()[index].clone()


def _state_name(parameter: str, key: str) -> str | None:
    """Returns the name of a state without the table's, which the parameter has; None: its steps."""
    if TABLES not in parameter:
        return key
    name = key.rpartition(".")[2]
    return None if name == "step" else name


def _is_fresh(name: str, value: Tensor, saved: Saved) -> bool:
    """Returns whether a warm start leaves a tensor alone: one of the losses that does not fit."""
    of_optimizer = f"{OPTIMIZER}{TOWERS.removeprefix(MODEL)}"
    if name.startswith((TOWERS, of_optimizer)):
        return False
    return name not in saved or not _fits(name, value, saved)


def _fits(name: str, value: Tensor, saved: Saved) -> bool:
    """Returns whether a tensor has the checkpoint's shape, or more rows where rows are entities."""
    before, after = saved[name].size, value.size()
    if before == after:
        return True
    dimension = _entity_dimension(name, before)
    if dimension is None or len(before) != len(after):
        return False
    others = [i for i in range(len(after)) if i != dimension]
    return before[dimension] < after[dimension] and all(before[i] == after[i] for i in others)


def _entity_dimension(name: str, shape: torch.Size) -> int | None:
    """Returns the dimension along which a tensor grows with a vocabulary or the catalogue."""
    if TABLES in name:
        return 0
    # A logQ estimator without hashing has one row of counters, a column for each item.
    return 1 if ".frequency." in name and len(shape) == 2 and shape[0] == 1 else None


def _check_shapes(state: State, saved: Saved, path: Path, may_grow: bool) -> None:
    for name, value in state.items():
        if name not in saved:
            raise UserError(
                f"{path} is of another model: it has no {name}; run `recsys doctor` to compare, "
                "and train from scratch."
            )
        is_same = saved[name].size == value.size()
        if not (is_same or (may_grow and _fits(name, value, saved))):
            raise UserError(
                f"{path} is of another model: {name} is {tuple(saved[name].size)} there and "
                f"{tuple(value.size())} here; run `recsys doctor` to compare, and train from "
                "scratch."
            )


class _GrowingPlanner(dcp.DefaultLoadPlanner):
    """Loads a saved tensor into the front of a larger one."""

    def set_up_planner(
        self,
        state_dict: State,
        metadata: Metadata | None = None,
        is_coordinator: bool = False,
    ) -> None:
        assert metadata is not None
        entries = dict(metadata.state_dict_metadata)
        for name, value in state_dict.items():
            entries[name] = replace(entries[name], size=value.size())
        metadata = replace(metadata, state_dict_metadata=entries)
        super().set_up_planner(state_dict, metadata, is_coordinator)


def _load(state: State, path: Path) -> None:
    """Copies into the tensors of the state, which are the model's and the optimizers' own."""
    try:
        dcp.load(state, checkpoint_id=path, planner=_GrowingPlanner())
    except CheckpointException as error:
        cause = next(iter(error.failures.values()))[0]
        raise UserError(
            f"{path} is corrupt: its files cannot be read ({type(cause).__name__}); remove it to "
            "resume from the checkpoint before it, or to train from scratch."
        ) from error


def _set_table_steps(optimizer: CombinedOptimizer, steps: int) -> None:
    """Sets the steps of replicated tables, for Adam's bias correction.

    Those of fused tables are set at each step.
    """
    for parameter, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            if TABLES in parameter and _state_name(parameter, key) is None:
                value.fill_(steps)
