"""Foundations: errors, files, manifests, hashing, and the arrays that features are made of."""
