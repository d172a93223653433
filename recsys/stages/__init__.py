"""The stages behind the commands prepare, train and evaluate."""
