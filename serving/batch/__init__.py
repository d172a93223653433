"""Recommendations and vectors of a whole catalogue, to files."""
