"""Retrieval channels: scores of items that need no training, and their fusion with the model."""
