"""Reading of a prepared directory."""
