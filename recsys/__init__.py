"""Training of large-scale two-tower recommenders with self-supervised item representations."""
