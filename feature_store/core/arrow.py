"""Raw columns of any Arrow type that files keep them in."""

import pyarrow as pa


def plain_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Returns the column as one array, with dictionary encoding undone."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # Several chunks of a type that cannot be joined.
        array = pa.concat_arrays(array.chunks)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def id_strings(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Casts ids to strings: the integer 42 and the string "42" are the same id."""
    return plain_array(column).cast(pa.string())
