"""Starts the ranks of a training: in this process, or as workers of Ray Train."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from feature_store.core.errors import UserError
from feature_store.core.files import write_text
from pipelines.process import quiet_engines, thread_share, use_all_cores, use_loopback, use_threads
from recsys.config.training import RayTrainConfig, TrainingConfig
from recsys.data.loader import in_process_batches, ray_batches
from recsys.training.rank import train_on_rank
from recsys.training.run import TrainingRun

# File in the run's directory with a mistake of the user's, which another attempt would repeat.
_MISTAKE_FILE = "mistake.txt"
# Cores that a worker reserves: Ray Data's tasks need the rest, or they starve and nothing moves.
_WORKER_CPUS = 0.5


def launch(run: TrainingRun) -> None:
    """Runs `train_on_rank` on every rank, and returns when all are done.

    Raises:
        UserError: A rank raised one, or a worker failed.
    """
    settings = run.config.training
    if settings.ray is None:
        device = device_of(settings, local_rank=0)
        use_all_cores()
        with single_process_group(device):
            train_on_rank(run, device, in_process_batches)
    else:
        _launch_ray(run, settings, settings.ray)


def device_of(settings: TrainingConfig, local_rank: int) -> torch.device:
    """Returns the device of a rank, and makes it the current one.

    Args:
        settings: Training section of the configuration.
        local_rank: Number of the rank on its machine.

    Raises:
        UserError: The settings ask for CUDA, and there is none.
    """
    if settings.device == "cpu" or (settings.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError("training.device is cuda, but torch finds no GPU here; set it to auto.")
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


@contextmanager
def single_process_group(device: torch.device) -> Iterator[None]:
    """Opens a process group of this process alone, for TorchRec needs one even for one rank."""
    if dist.is_initialized():
        raise UserError(
            "training.ray null needs a process without a torch.distributed group; "
            "destroy it, or set training.ray: {workers: 1}."
        )
    backend = "nccl" if device.type == "cuda" else "gloo"
    use_loopback()
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _launch_ray(run: TrainingRun, settings: TrainingConfig, ray_train: RayTrainConfig) -> None:
    import ray.train
    from ray.train.torch import TorchTrainer

    from pipelines.executor.session import ensure_ray
    from recsys.distributed.ray_group import GroupConfig

    ensure_ray()
    quiet_engines()
    use_gpu = settings.device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
    mistake = run.work_dir / _MISTAKE_FILE
    mistake.unlink(missing_ok=True)
    trainer = TorchTrainer(
        _ray_worker,
        train_loop_config={"run": run.model_dump_json(), "backend": "nccl" if use_gpu else "gloo"},
        torch_config=GroupConfig(),
        scaling_config=ray.train.ScalingConfig(
            num_workers=ray_train.workers,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": _WORKER_CPUS, **({"GPU": 1} if use_gpu else {})},
        ),
        run_config=ray.train.RunConfig(
            name="train",
            storage_path=str(run.work_dir / "ray"),
            # The workers are started again, and continue from the latest checkpoint.
            failure_config=ray.train.FailureConfig(max_failures=ray_train.max_failures),
        ),
    )
    try:
        trainer.fit()
    finally:
        if mistake.exists():
            raise UserError(mistake.read_text(encoding="utf-8"))


def _ray_worker(options: dict[str, Any]) -> None:
    from ray.train import get_context

    from recsys.distributed.ray_group import ray_process_group

    run, context = TrainingRun.model_validate_json(options["run"]), get_context()
    use_threads(thread_share(context.get_local_world_size()))
    mistake = run.work_dir / _MISTAKE_FILE
    if mistake.exists():
        return
    try:
        device = device_of(run.config.training, context.get_local_rank())
        with ray_process_group(options["backend"]):
            train_on_rank(run, device, ray_batches)
    except UserError as error:
        write_text(mistake, str(error))
        raise
