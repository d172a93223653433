"""Upper bounds of numbers that have no natural one, far above what is of use.

With them a mistyped number is a sentence, and neither fills the memory nor overflows. They are
apart from the settings, whose engine takes half of the time of `recsys --help`.
"""

MANY = 1_000_000  # Epochs, trials, workers.
ROWS = 2**31 - 2  # Rows of a table, which are numbered in 32 bits.
EVENTS = 10**15  # Events, steps, and other counts of what grows with time.
LARGE = 1e9  # Weights, rates, norms.
