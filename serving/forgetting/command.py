"""`recsys forget --everywhere` as a command: what it did, and what it did not reach."""

from collections.abc import Sequence

from rich.console import Console

from recsys.config.config import Config
from recsys.stages.forget import doubts
from serving.forgetting.everywhere import forget_everywhere


def run_everywhere(
    config: Config,
    query_ids: Sequence[str],
    item_ids: Sequence[str],
    *,
    dry_run: bool,
    console: Console,
) -> None:
    """Forgets ids everywhere, and prints a line for each thing.

    Args:
        config: Configuration of the system.
        query_ids: Ids of queries.
        item_ids: Ids of items.
        dry_run: Whether nothing is changed.
        console: Console to show progress on.
    """
    notes = doubts(config, query_ids, item_ids)
    found = forget_everywhere(
        config, query_ids=query_ids, item_ids=item_ids, dry_run=dry_run, console=console
    )
    for sentence in notes:
        print(f"note: {sentence}")
    print("would be done, and nothing was:" if dry_run else "done:")
    for line in found.done or ["nothing, for there is nothing of them"]:
        print(f"  - {line}")
    print("not reached, and yours to look at if it may hold the ids:")
    for place in found.unreached:
        print(f"  - {place}")
