"""The export of a checkpoint to a sealed bundle, its gate, and the update by new items."""
