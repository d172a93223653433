"""Logs to training examples, step by step."""
