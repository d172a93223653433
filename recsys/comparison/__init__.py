"""Comparison of two evaluated runs."""
