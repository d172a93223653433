"""Files of a run: its result, its curves, its items and its queries."""
