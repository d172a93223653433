"""The nightly job: a new model each day, promoted only where it is not worse."""
