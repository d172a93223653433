"""Times of every type and form that logs use, as microseconds since 1970."""
