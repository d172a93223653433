"""The optimizers, so that every parameter has exactly one.

tables in parts     TorchRec's fused optimizer, which updates rows in the backward pass
replicated tables   ReplicatedTables, with the same arithmetic
all else            AdamW of PyTorch
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    SplitTableBatchedEmbeddingBagsCodegen,
)
from torch import Tensor
from torchrec.distributed import DistributedModelParallel
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizer, KeyedOptimizerWrapper

from recsys.config.training import TrainingConfig
from recsys.distributed.shards import ShardedTensor

# Part of the name of every table's parameter.
TABLES = ".embedding_bags."

_EPSILON = 1e-8
_BETAS = (0.9, 0.999)
_FUSED = {
    "rowwise_adagrad": EmbOptimType.EXACT_ROWWISE_ADAGRAD,
    "adam": EmbOptimType.ADAM,
    "sgd": EmbOptimType.EXACT_SGD,
}


def fused_settings(settings: TrainingConfig) -> dict[str, Any]:
    """Returns the settings that TorchRec's sharders hand to the fused kernels."""
    fused = {
        "optimizer": _FUSED[settings.sparse_optimizer],
        "learning_rate": settings.sparse_learning_rate,
    }
    if settings.sparse_optimizer == "sgd":
        return fused
    return {**fused, "eps": _EPSILON, "beta1": _BETAS[0], "beta2": _BETAS[1]}


def state_bytes(rows: int, columns: int, settings: TrainingConfig) -> int:
    """Returns the bytes of optimizer state of a table, or of a part of one."""
    per_row = {"rowwise_adagrad": 1, "adam": 2 * columns, "sgd": 0}[settings.sparse_optimizer]
    return 4 * rows * per_row


class Optimizers:
    """All optimizers of a sharded model.

    Args:
        sharded: The model.
        settings: The kinds, learning rates and weight decay.

    Attributes:
        combined: Optimizer of every parameter, by name; a checkpoint holds its state.
        dense: The parameters that are no tables.
    """

    def __init__(self, sharded: DistributedModelParallel, settings: TrainingConfig) -> None:
        self._settings = settings
        self._fused = sharded.fused_optimizer
        parameters, state = dict(sharded.named_parameters()), sharded.state_dict()
        # A rank also lists tables of other ranks, which none of its own optimizers has.
        replicated = {
            name: parameter
            for name, parameter in parameters.items()
            if TABLES in name and not isinstance(state[name], ShardedTensor)
        }
        dense = {name: p for name, p in parameters.items() if TABLES not in name}
        self.dense = list(dense.values())
        self._dense = KeyedOptimizerWrapper(dense, lambda _: _dense_optimizer(dense, settings))
        parts: list[KeyedOptimizer] = [self._fused, self._dense]
        self._tables: list[KeyedOptimizer] = [self._fused]
        if replicated:
            self._tables.append(ReplicatedTables(replicated, settings))
            parts.append(self._tables[-1])
        self.combined = CombinedOptimizer(parts)
        # Adam corrects its bias by a count of forward passes, of which evaluation makes some too.
        self._counting = [
            module
            for module in sharded.modules()
            if isinstance(module, SplitTableBatchedEmbeddingBagsCodegen)
            and settings.sparse_optimizer == "adam"
        ]

    def set_learning_rates(self, step: int, factor: float) -> None:
        """Sets both learning rates; `zero_grad` hands the fused kernels theirs.

        Args:
            step: Number of steps done before, in all trainings of this model.
            factor: Factor of both learning rates.
        """
        for table in self._tables:
            for group in table.param_groups:
                group["lr"] = factor * self._settings.sparse_learning_rate
        for group in self._dense.param_groups:
            group["lr"] = factor * self._settings.dense_learning_rate
        for module in self._counting:
            module.iter_cpu.fill_(step)

    def zero_grad(self) -> None:
        """Clears the gradients before a forward pass, and hands the fused kernels their settings.

        The kernels need them now, for they update the tables in the backward pass.
        """
        self.combined.zero_grad()

    def step(self) -> None:
        """Applies the gradients of all parameters that the backward pass has not updated."""
        self.combined.step()


def _dense_optimizer(
    parameters: Mapping[str, Tensor], settings: TrainingConfig
) -> torch.optim.Optimizer:
    # Weight decay is for matrices: not for biases, scales of norms, defaults and the temperature.
    decayed = [parameter for parameter in parameters.values() if parameter.ndim > 1]
    others = [parameter for parameter in parameters.values() if parameter.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    # The fused kernel takes a fourth of the time on a CPU; on a GPU the default is as good.
    is_on_cpu = all(parameter.device.type == "cpu" for parameter in parameters.values())
    return torch.optim.AdamW(groups, lr=settings.dense_learning_rate, fused=is_on_cpu or None)


class ReplicatedTables(KeyedOptimizer):
    """Optimizer of tables with a copy on each rank: arithmetic and state of the fused kernels.

    Rows without a gradient stay as they are, so that it is the same as if the tables were sharded.

    Args:
        tables: Tables by name, each [rows, dim].
        settings: Kind of the optimizer and learning rate.
    """

    def __init__(self, tables: Mapping[str, Tensor], settings: TrainingConfig) -> None:
        self._update = _UPDATES[settings.sparse_optimizer]
        state = {
            table: _state(name.split(TABLES)[1].removesuffix(".weight"), table, settings)
            for name, table in tables.items()
        }
        groups = [{"params": list(tables.values()), "lr": settings.sparse_learning_rate}]
        super().__init__(dict(tables), state, groups)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Updates the rows that have a gradient."""
        (group,) = self.param_groups
        for table in group["params"]:
            gradient = table.grad
            if gradient is None:
                continue
            rows = gradient.any(dim=1).nonzero().squeeze(1)
            change = self._update(gradient[rows].float(), rows, *self.state[table].values())
            table[rows] = (table[rows].float() - group["lr"] * change).to(table.dtype)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients."""
        (group,) = self.param_groups
        for table in group["params"]:
            table.grad = None


def _state(name: str, table: Tensor, settings: TrainingConfig) -> dict[str, Tensor]:
    """Returns state with the fused optimizer's names: a checkpoint can be loaded into either."""
    if settings.sparse_optimizer == "sgd":
        return {}
    rows, dim = table.shape
    if settings.sparse_optimizer == "rowwise_adagrad":
        return {f"{name}.momentum1": torch.zeros(rows, device=table.device)}
    return {
        f"{name}.momentum1": torch.zeros(rows, dim, device=table.device),
        f"{name}.exp_avg_sq": torch.zeros(rows, dim, device=table.device),
        f"{name}.step": torch.zeros((), device=table.device),
    }


def _rowwise_adagrad(gradient: Tensor, rows: Tensor, sums: Tensor) -> Tensor:
    """Applies Adagrad (Duchi et al. 2011) with one sum a row, that of the mean of its squares."""
    sums[rows] += gradient.square().mean(dim=1)
    return gradient / (sums[rows].sqrt()[:, None] + _EPSILON)


def _adam(gradient: Tensor, rows: Tensor, means: Tensor, squares: Tensor, step: Tensor) -> Tensor:
    """Applies Adam (Kingma and Ba 2015); a row's moments wait while it has no gradient."""
    step += 1
    means[rows] = torch.lerp(gradient, means[rows], _BETAS[0])
    squares[rows] = torch.lerp(gradient.square(), squares[rows], _BETAS[1])
    mean = means[rows] / (1 - _BETAS[0] ** step)
    square = squares[rows] / (1 - _BETAS[1] ** step)
    return mean / (square.sqrt() + _EPSILON)


def _sgd(gradient: Tensor, rows: Tensor) -> Tensor:
    return gradient


_UPDATES: dict[str, Callable[..., Tensor]] = {
    "rowwise_adagrad": _rowwise_adagrad,
    "adam": _adam,
    "sgd": _sgd,
}
