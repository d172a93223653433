"""Execution of steps: tasks that turn files into files."""
