"""Mergeable statistics of columns and items."""
