"""The machine that the configuration is written on."""

import shutil


def count_gpus() -> int:
    """Returns the number of GPUs that torch can use here.

    Without a driver there is none, and torch, which takes a second to import, is not asked.
    """
    if shutil.which("nvidia-smi") is None:
        return 0
    import torch

    return torch.cuda.device_count()
