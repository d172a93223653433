"""Execution of steps: tasks that turn files into files, and the engines that run them."""

from pipelines.executor.executor import Executor
from pipelines.executor.local import LocalExecutor
from pipelines.executor.ray import RayExecutor
from pipelines.settings import ExecutorName


def executor_named(name: ExecutorName) -> Executor:
    """Returns the executor that a configuration names; starts nothing."""
    return LocalExecutor() if name == "local" else RayExecutor()
