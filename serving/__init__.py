"""From a checkpoint to answers: the bundle, its index and its HTTP server."""
