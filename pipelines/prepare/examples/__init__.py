"""Examples of the kept events: from the rows of a bucket to shuffled parts of each split."""
