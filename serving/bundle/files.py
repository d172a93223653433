"""Arrow files of a bundle, mapped into memory."""

from pathlib import Path

import pyarrow as pa


def mapped_table(path: Path) -> pa.Table:
    """Maps an Arrow file, each column in one chunk.

    Offsets that lead out of the file would be read as addresses, so all of them are tested.

    Raises:
        pa.ArrowInvalid: It is no such file, or its offsets or its text are not valid.
    """
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    table.validate(full=True)
    return table.combine_chunks()
