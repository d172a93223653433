"""Features: their schema, the encoding of raw values as table rows, and the stores of values."""
