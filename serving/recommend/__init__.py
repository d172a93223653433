"""From a query to recommendations."""
