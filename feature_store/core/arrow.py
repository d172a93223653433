"""Raw columns, whatever Arrow type a file keeps them in."""

import pyarrow as pa


def plain_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """One array with dictionary encoding undone."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # Several chunks of a type that cannot be joined.
        array = pa.concat_arrays(array.chunks)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def id_strings(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Ids as strings: the integer 42 and the string "42" are the same id."""
    return plain_array(column).cast(pa.string())
