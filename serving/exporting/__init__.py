"""From a checkpoint to a sealed bundle, gated; and its update by new items."""
