"""Sections of the dashboard's pages."""
