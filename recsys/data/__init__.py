"""Batches: from prepared examples to tensors, in a reproducible order."""
