"""Profiles of a log, from which a configuration is inferred."""
