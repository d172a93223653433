"""Files of all recommendations and of all item vectors."""
