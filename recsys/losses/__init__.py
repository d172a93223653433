"""Losses as small functions of tensors."""
