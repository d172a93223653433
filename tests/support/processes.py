"""Processes of tests, forked from a server that has imported what they need.

An import of torchrec takes seconds. There is one server in a process, and one list of what it
imports: a second call of `set_forkserver_preload` would take the place of the first.
"""

import multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "recsys.training.rank",
        "tests.support.prepare_logs",
        "tests.support.ranks",
        "tests.support.toy",
    ]
)
