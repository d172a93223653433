"""Sentences for what a store of MLflow that fails in the middle does to a command."""

import sys

from recsys.disk_faults import chained


def store_fault(error: BaseException) -> str | None:
    """Explains an error for which MLflow is the reason.

    Args:
        error: Error of a command.

    Returns:
        One sentence: what, and what to do; None for other errors.
    """
    exceptions = sys.modules.get("mlflow.exceptions")  # Whoever met such an error has imported it.
    if exceptions is None:
        return None
    for each in chained(error):
        if isinstance(each, exceptions.MlflowException):
            reason = str(each).partition("\n")[0].rstrip(".")
            return (
                f"the MLflow store failed: {reason}; look whether it answers, and run the command "
                "again, which goes on from what is finished."
            )
    return None
