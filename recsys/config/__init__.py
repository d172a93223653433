"""Every setting, one file a section."""
