"""Columns of a log by what they are for: ids, times, parts of a split, bookkeeping."""
