"""Files of the log that cannot be used, and the limit of those that are put aside."""

from collections.abc import Mapping, Sequence

from feature_store.core.errors import UserError
from pipelines.logs.filesystems import UnreadableFileError
from pipelines.urls import shown


class RefusedLogError(UserError):
    """A log with files that cannot be used, or that is not what it has been.

    Args:
        message: Sentence on it.
        files: Files at fault.
    """

    def __init__(self, message: str, files: Sequence[str]) -> None:
        super().__init__(message, tuple(files))
        self.files = tuple(files)

    def __str__(self) -> str:
        return str(self.args[0])


def require_few(
    table: str,
    files: Sequence[str],
    rejected: Mapping[str, str],
    limit: int | None,
    errors: Sequence[UnreadableFileError],
) -> None:
    """Checks that not too many files are put aside, and not all.

    Args:
        table: Name of the table.
        files: All files of the table.
        rejected: Reasons by file that cannot be used: ends of sentences.
        limit: Number of files that may be put aside; None: a fault of any is an error.
        errors: Errors of those that cannot be read.

    Raises:
        RefusedLogError: There are too many, or no file can be used.
        UnreadableFileError: The only file, or one where none may be put aside, cannot be read.
    """
    if not rejected or (len(rejected) <= (limit or 0) and len(rejected) < len(files)):
        return
    file, reason = next(iter(rejected.items()))
    key = "data.quality.max_rejected_files"
    message = str(errors[0]) if errors else f"{table}: {shown(file)} {reason}; correct it."
    if limit is None or len(rejected) == len(files) == 1:
        raise errors[0] if errors else RefusedLogError(message, list(rejected))
    if limit == 0 and len(rejected) == 1:
        raise RefusedLogError(f"{message.removesuffix('.')}, or put it aside by {key}: 1.", [file])
    if len(rejected) == len(files):
        sentence = f"{table}: no file can be used: {shown(file)} {reason}; correct them."
        raise RefusedLogError(sentence, list(rejected))
    raise RefusedLogError(
        f"{table}: {len(rejected):,} of {len(files):,} files cannot be used, {key} allows "
        f"{limit:,}: {shown(file)} {reason}; correct them, or raise {key}.",
        list(rejected),
    )
