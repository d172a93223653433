"""Data behind the dashboard: tracked runs, items and queries."""
