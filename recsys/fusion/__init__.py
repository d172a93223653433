"""The fused ranking: the model, the retrieval channels and the popularity dial, as one score."""
