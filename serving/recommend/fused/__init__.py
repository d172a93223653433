"""The fused ranking of a bundle: its search, and what explains an answer."""
