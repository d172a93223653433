"""Public and synthetic logs in the log layout."""
