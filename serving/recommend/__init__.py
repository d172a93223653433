"""Recommendations for queries, by the contents of a bundle."""
