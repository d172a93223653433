"""Approximate and exact nearest-neighbour search over item vectors."""
