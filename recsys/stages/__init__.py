"""The stages behind the commands prepare, materialize, train and evaluate."""
