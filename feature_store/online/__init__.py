"""Online stores of features and recent histories."""
