"""Exact evaluation over the whole corpus, by slice, beside baselines."""
