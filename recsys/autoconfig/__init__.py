"""Inference of a configuration from a log."""
