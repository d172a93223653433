"""Studies: objectives over label fractions and seeds."""
