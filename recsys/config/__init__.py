"""Every setting, one file a section; of `ssl`, one file a family of methods."""
