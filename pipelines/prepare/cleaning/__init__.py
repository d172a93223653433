"""Cleaning of the log: ids, times, and rows that are put aside."""
