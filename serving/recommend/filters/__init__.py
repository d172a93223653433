"""Filters of items by the values of their features."""
