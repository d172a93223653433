"""The evaluation dashboard: pages over the runs of MLflow, and one file of each run."""
