"""Feast's view of the feature store: its repository and its online store."""
