"""Raw columns of any Arrow type that files keep them in."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Texts that programs write in place of a missing value: those that pandas reads as one, and more.
MISSING = (
    *("", "nan", "NaN", "NAN", "Nan", "-nan", "-NaN", "None", "NONE", "null", "Null", "NULL"),
    *("<NA>", "NA", "N/A", "n/a", "#NA", "#N/A", "#N/A N/A"),
    *("1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
    *("NaT", "\\N", "(null)", "<null>", "<nil>", "undefined"),
)
# Whole numbers from here on may be others that were rounded, by bits of the type.
_EXACT_BELOW = {16: 2.0**11, 32: 2.0**24, 64: 2.0**53}


def plain_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Returns the column as one array, with dictionary encoding undone."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # Several chunks of a type that cannot be joined.
        array = pa.concat_arrays(array.chunks)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def id_strings(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Converts ids to strings: the integer 42, the double 42.0 and the string "42" are the same id.

    Null where an id is missing (see `missing_ids`), or is none: a fraction, a number that its type
    cannot hold exactly, or bytes that are not UTF-8.
    """
    array = plain_array(column)
    return _strings(array, missing_ids(array))


def ids_and_missing(column: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, pa.Array]:
    """Returns what `id_strings` and what `missing_ids` return."""
    array = plain_array(column)
    missing = missing_ids(array)
    return _strings(array, missing), missing


def _strings(array: pa.Array, missing: pa.Array) -> pa.Array:
    """Converts ids to strings, see `id_strings`, of which it is known which are missing."""
    kind = array.type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _whole(array)
    texts = token_strings(array)
    return pc.if_else(missing, None, texts) if _is_text(kind) and missing.true_count else texts


def missing_ids(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Returns which ids are missing, [rows]: null, NaN, blank, or one of the texts `MISSING`."""
    array = plain_array(column)
    missing = array.is_null(nan_is_null=True)
    if not _is_text(array.type):
        return missing
    texts = token_strings(array)
    blank = pc.fill_null(pc.utf8_is_space(texts), False)
    listed = pc.is_in(texts, value_set=pa.array(MISSING), skip_nulls=True)
    return pc.or_(missing, pc.or_(blank, listed))


def token_strings(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Formats values as tokens: the integer 3, the double 3.0 and the string "3" are the same.

    NaN, infinities and bytes that are not UTF-8 are null.
    """
    array = plain_array(column)
    kind = array.type
    if pa.types.is_floating(kind):
        finite = pc.if_else(pc.is_finite(_doubles(array)), array, None)
        return pc.coalesce(_whole(finite), _text(finite))
    if pa.types.is_decimal(kind):
        digits = pc.replace_substring_regex(array.cast(pa.string()), r"(\.\d*?)0+$", r"\1")
        return pc.coalesce(_whole(array), digits)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return _decoded(array)
    return array.cast(pa.string())


def token_of(value: object) -> str | None:
    """Formats a JSON value as the same value of a log; None where it is no token."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        token = token_strings(pa.array([value]))[0].as_py()
        return None if token is None else str(token)
    return str(value) if isinstance(value, str | int) else None


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    is_string = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    is_bytes = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return bool(is_string or is_bytes)


def _doubles(array: pa.Array) -> pa.Array:
    return array.cast(pa.float64())


def _text(array: pa.Array) -> pa.Array:
    """Formats floats with as few digits as identify them in their own type."""
    if pa.types.is_float16(array.type):
        array = array.cast(pa.float32())
    return array.cast(pa.string())


def _whole(array: pa.Array) -> pa.Array:
    """Formats the numbers that are whole and exact; the others are null."""
    if pa.types.is_decimal(array.type):
        whole = pc.trunc(array)
        exact = pc.if_else(pc.equal(whole, array), whole, None)
        return exact.cast(pa.decimal256(76, 0)).cast(pa.string())
    numbers = _doubles(array)
    is_exact = pc.less(pc.abs(numbers), _EXACT_BELOW[array.type.bit_width])
    is_whole = pc.and_(is_exact, pc.equal(pc.floor(numbers), numbers))
    return pc.if_else(is_whole, numbers, None).cast(pa.int64()).cast(pa.string())


def _decoded(array: pa.Array) -> pa.Array:
    """Decodes UTF-8, null where it is none."""
    try:
        return array.cast(pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        encoded = array.cast(pa.binary()).dictionary_encode()
    texts: list[str | None] = []
    for value in encoded.dictionary.to_pylist():
        try:
            texts.append(value.decode())
        except UnicodeDecodeError:
            texts.append(None)
    return pa.array(texts, pa.string()).take(encoded.indices)


def common_type(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    """Returns a type that holds the values of two; None where there is none."""
    types = pa.types
    if first.equals(second) or types.is_null(second):
        return first
    if types.is_null(first):
        return second
    kinds = (first, second)
    if any(map(_is_text, kinds)):
        return pa.string() if all(map(_has_tokens, kinds)) else None
    if any(map(types.is_floating, kinds)) and all(map(_is_numeric, kinds)):
        return pa.float64()
    if pa.uint64() in kinds and any(map(types.is_signed_integer, kinds)):
        return pa.decimal128(20, 0)
    moments = [types.is_timestamp(kind) or types.is_date(kind) for kind in kinds]
    if all(moments):
        stamps = [kind if types.is_timestamp(kind) else pa.timestamp("s") for kind in kinds]
        unit = max((stamp.unit for stamp in stamps), key=["s", "ms", "us", "ns"].index)
        zones = {stamp.tz for stamp in stamps}
        return pa.timestamp(unit, zones.pop() if len(zones) == 1 else "UTC")
    if all(types.is_list(kind) or types.is_fixed_size_list(kind) for kind in kinds):
        inner = common_type(first.value_type, second.value_type)
        return pa.list_(pa.field("element", inner)) if inner is not None else None
    try:
        schemas = [pa.schema([("", kind)]) for kind in kinds]
        return pa.unify_schemas(schemas, promote_options="permissive").field("").type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return None


def as_type(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Converts an array to a `common_type` of its own.

    Raises:
        pyarrow.ArrowInvalid: A value would change.
    """
    if array.type.equals(kind):
        return array
    if pa.types.is_string(kind):
        return token_strings(array)
    if pa.types.is_list(kind) and not pa.types.is_null(array.type):
        return map_elements(array, lambda elements: as_type(elements, kind.value_type))
    return array.cast(kind)


def map_elements(array: pa.Array, function: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Applies a function to all elements of lists of any kind, and returns lists."""
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    elements = function(plain_array(pc.list_flatten(array)))
    return pa.ListArray.from_arrays(pa.array(offsets), elements, mask=array.is_null())


def _has_tokens(kind: pa.DataType) -> bool:
    return _is_text(kind) or _is_numeric(kind) or pa.types.is_boolean(kind)


def _is_numeric(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))
