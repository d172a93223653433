"""The `tracking` section of a configuration."""

from pydantic import Field

from feature_store.core.settings import Settings


class TrackingConfig(Settings):
    """MLflow, where every training, evaluation and study is a run."""

    experiment: str = Field("recsys", min_length=1, description="Name of the MLflow experiment.")
    uri: str | None = Field(
        None,
        description="MLflow's tracking store; null: MLFLOW_TRACKING_URI, else SQLite beside the "
        "output.",
    )
