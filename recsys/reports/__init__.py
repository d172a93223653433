"""Pages of a run, and the sections that the dashboard shows of it."""
