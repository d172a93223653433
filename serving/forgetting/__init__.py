"""Forgetting of ids wherever the configuration leads: `recsys forget --everywhere`."""
