"""Self-supervised learning of item representations."""
