"""From logs to training examples, on Ray Data."""
