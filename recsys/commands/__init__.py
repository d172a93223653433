"""The commands of `recsys`, one file a panel of its help; those that serve are in `serving/`."""
