"""The HTTP server of the commands that listen: bounds of connections, checks of names."""
