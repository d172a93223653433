"""Data quality: coverage, drift, stability, and their page."""
