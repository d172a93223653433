"""Snapshots of features with their validity, read at a point in time."""
