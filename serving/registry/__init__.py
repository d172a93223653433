"""The model registry: champion, challenger, and bundles by name."""
