"""A/B tests: export, exposure log, outcomes and report."""
