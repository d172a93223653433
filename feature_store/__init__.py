"""What a feature is: its schema, how a raw value becomes a table row, and where values are kept."""
