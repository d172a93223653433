"""Sharding: ranks, planner, optimizers."""
