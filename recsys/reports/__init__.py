"""Pages of an evaluation and of a training."""
