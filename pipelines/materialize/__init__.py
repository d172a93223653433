"""Features and histories from logs to the feature store."""
