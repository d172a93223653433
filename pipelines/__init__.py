"""Pipelines: logs to training examples, and to the feature store."""
