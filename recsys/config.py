"""The whole configuration of a system, closed and typed, and how it is loaded from YAML."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from feature_store.errors import UserError
from feature_store.schema import FeatureSchema, Settings
from pipelines.settings import DataConfig


class ModelConfig(Settings):
    """The two towers."""

    dim: int = Field(64, ge=2, le=4096, description="Length of query and item vectors.")
    item_tower: tuple[int, ...] = Field((128,), description="Widths of its hidden layers.")
    query_tower: tuple[int, ...] = Field((128,), description="Widths of its hidden layers.")
    history_pooling: tuple[Literal["mean", "last"], ...] = Field(
        ("mean",), description="How a query reads its history's item features; several are joined."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Of the towers' inputs and hidden layers.")

    @model_validator(mode="after")
    def _poolings_are_distinct(self) -> "ModelConfig":
        if len(set(self.history_pooling)) != len(self.history_pooling):
            raise ValueError("history_pooling lists the same pooling twice")
        return self


class LossConfig(Settings):
    """The main task: batch softmax over the items of the global batch."""

    temperature: float = Field(0.07, gt=0)
    logq_strength: float = Field(
        1.0, ge=0, le=1, description="How much of log Q(item) is taken off the training logits."
    )
    id_dropout: float = Field(
        0.1, ge=0, lt=1, description="How often a positive hides its id, so that cold items work."
    )
    history_dropout: float = Field(
        0.0, ge=0, lt=1, description="How often each history item is left out in training."
    )


class NoSelfSupervision(Settings):
    """The main task alone."""

    method: Literal["none"] = "none"


class _MaskingConfig(Settings):
    alpha: float = Field(0.1, gt=0, description="Weight of the self-supervised loss.")
    temperature: float = Field(0.1, gt=0)
    batch_size: int | None = Field(
        None, ge=2, description="Uniformly sampled items a step; null: as many as examples."
    )
    value_dropout: float = Field(
        0.1, ge=0, lt=1, description="Of each value of a multi-valued feature, in each view."
    )


class RandomMasking(_MaskingConfig):
    """RFM: a random half of the features is masked in view A, the other half in view B."""

    method: Literal["rfm"] = "rfm"


class CorrelatedMasking(_MaskingConfig):
    """CFM: a seed feature and its most correlated features are masked together."""

    method: Literal["cfm"] = "cfm"
    mutual_information: Literal["raw", "normalised"] = Field(
        "raw", description="raw is the paper's; normalised divides by the smaller entropy."
    )


SelfSupervisionConfig = Annotated[
    NoSelfSupervision | RandomMasking | CorrelatedMasking, Field(discriminator="method")
]


class TrainingConfig(Settings):
    """The loop, its optimizers and its workers."""

    seed: int = Field(0, ge=0)
    epochs: int = Field(10, ge=1)
    batch_size: int = Field(1024, ge=2, description="Examples a step, over all workers.")
    workers: int = Field(1, ge=1)
    launcher: Literal["ray", "local"] = Field(
        "local", description="ray: Ray Train, any number of workers; local: in-process, one."
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    sparse_learning_rate: float = Field(0.05, gt=0, description="Of row-wise Adagrad.")
    dense_learning_rate: float = Field(0.001, gt=0, description="Of AdamW.")
    weight_decay: float = Field(0.0, ge=0, description="Of AdamW.")
    row_wise_from: int = Field(
        10_000, ge=1, description="Tables of at least so many rows are sharded row-wise."
    )
    validations_per_epoch: int = Field(1, ge=1)
    patience: int = Field(3, ge=1, description="Validations without gain before training stops.")

    @model_validator(mode="after")
    def _workers_fit(self) -> "TrainingConfig":
        if self.launcher == "local" and self.workers != 1:
            raise ValueError("launcher local runs one worker; set launcher: ray or workers: 1")
        if self.batch_size % self.workers:
            raise ValueError("batch_size must be a multiple of workers")
        return self


class EvaluationConfig(Settings):
    """Exact full-corpus evaluation."""

    select_by: Literal["recall@10", "recall@50", "ndcg@10", "map@10"] = Field(
        "recall@50", description="The validation metric that picks the best checkpoint."
    )
    bootstrap_samples: int = Field(1000, ge=100, le=100_000)
    knn_neighbours: int = Field(100, ge=1, description="Of the item-kNN baseline.")


class ExportConfig(Settings):
    """The bundle and its gate."""

    min_ann_recall: float = Field(
        0.98, gt=0, le=1, description="Recall@100 of the index against exact search."
    )


class TrackingConfig(Settings):
    """MLflow."""

    experiment: str = Field("recsys", min_length=1)
    uri: str | None = Field(
        None, description="null: MLFLOW_TRACKING_URI, else SQLite beside the output."
    )


class Config(Settings):
    """One system: its data, features, model, training and outputs."""

    output: str = Field(description="Directory of everything that the stages write.")
    data: DataConfig
    features: FeatureSchema
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    ssl: SelfSupervisionConfig = CorrelatedMasking()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    export: ExportConfig = ExportConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _sections_agree(self) -> "Config":
        if self.ssl.method != "none" and len(self.features.item) < 2:
            raise ValueError("ssl needs at least two item features to split; set ssl.method: none")
        if "last" in self.model.history_pooling and self.data.history.kind == "others":
            raise ValueError(
                "model.history_pooling last has no meaning with data.history.kind others; "
                "use [mean]"
            )
        return self

    @property
    def prepared_dir(self) -> Path:
        """Where `prepare` writes."""
        return Path(self.output) / "prepared"

    @property
    def train_dir(self) -> Path:
        """Where `train` writes checkpoints."""
        return Path(self.output) / "train"

    @property
    def evaluation_dir(self) -> Path:
        """Where `evaluate` writes metrics.json and the report."""
        return Path(self.output) / "evaluation"

    @property
    def bundle_dir(self) -> Path:
        """Where `export` writes the bundle."""
        return Path(self.output) / "bundle"


# Values of these keys are paths: relative ones are taken from the file that names them.
_PATH_KEYS = (("output",), ("data", "events"), ("data", "items"), ("data", "queries"))

# The keys whose value selects one of several models.
_DISCRIMINATORS = ("kind", "method")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a YAML configuration.

    Args:
        path: The file. Relative paths inside it are relative to its directory.
        overrides: `key.path=value` with the value in YAML, as given to `--set`; relative paths
            here are relative to the working directory.

    Raises:
        UserError: The file is missing or not YAML, a key is unknown, or a value does not fit.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read the configuration {path}: {error}; write one with `recsys init`."
        ) from error
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise UserError(f"{path} is not YAML: {where}; mend that line.") from error
    if not isinstance(document, dict):
        raise UserError(f"{path} holds no configuration: expected keys such as data and features.")
    _resolve_paths(document, path.parent)
    for override in overrides:
        _apply_override(document, override)
    return parse_config(document, source=str(path))


def parse_config(document: dict[str, Any], *, source: str = "the configuration") -> Config:
    """Validates a nested dictionary; `source` names it in errors.

    Raises:
        UserError: As in `load_config`.
    """
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        problems = "; ".join(_problem(dict(detail)) for detail in error.errors()[:5])
        raise UserError(f"{source}: {problems}.") from error


def _resolve_paths(document: dict[str, Any], base: Path) -> None:
    for *parents, key in _PATH_KEYS:
        section: Any = document
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        if isinstance(section, dict) and isinstance(section.get(key), str):
            section[key] = str(base / section[key]) if "://" not in section[key] else section[key]


def _apply_override(document: dict[str, Any], override: str) -> None:
    name, separator, text = override.partition("=")
    keys = name.strip().split(".")
    if not separator or not all(keys):
        raise UserError(f"--set {override!r} is not of the form key.path=value.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"--set {override!r}: the value is not YAML; quote it.") from error
    section: Any = document
    for depth, key in enumerate(keys[:-1]):
        if isinstance(section, list):
            section = section[_list_position(section, key, override)]
            continue
        if section.get(key) is None:
            section[key] = {}
        section = section[key]
        if not isinstance(section, dict | list):
            raise UserError(f"--set {override!r}: {'.'.join(keys[: depth + 1])} has no keys.")
    if isinstance(section, list):
        section[_list_position(section, keys[-1], override)] = value
        return
    if keys[-1] in _DISCRIMINATORS and section.get(keys[-1]) != value:
        _forget_other_kind(section, keys[:-1], value)
    section[keys[-1]] = value


def _forget_other_kind(section: dict[str, Any], location: list[str], tag: Any) -> None:
    """Drops the keys that only the replaced kind or method has: `--set ssl.method=none` is enough."""
    models: list[type[BaseModel]] = [Config]
    for step in location:
        models = _step_into(models, step)
    chosen = [model for model in models if _tag(model) == tag]
    if chosen:
        for key in set(section) - set(chosen[0].model_fields):
            del section[key]


def _list_position(section: list[Any], key: str, override: str) -> int:
    """A list's entry is named by its position, or by its `name` where entries have one."""
    for position, entry in enumerate(section):
        if key == str(position) or (isinstance(entry, dict) and entry.get("name") == key):
            return position
    names = [entry.get("name", str(i)) for i, entry in enumerate(section) if isinstance(entry, dict)]
    raise UserError(f"--set {override!r}: no entry {key!r}; the list has {', '.join(names)}.")


def _problem(detail: dict[str, Any]) -> str:
    """One validation error in words; an unknown key names the nearest valid one."""
    # Pydantic puts a union's discriminator value into the location; it is not a key of the file.
    location = [part for part in detail["loc"] if not _is_union_tag(part, detail["loc"])]
    name = ".".join(str(part) for part in location) or "the configuration"
    if detail["type"] == "extra_forbidden":
        valid = _valid_keys(detail["loc"][:-1])
        close = difflib.get_close_matches(str(location[-1]), valid, n=1, cutoff=0.0)
        hint = f"did you mean {close[0]}? " if close else ""
        return f"unknown key {name} ({hint}valid: {', '.join(sorted(valid))})"
    if detail["type"] == "missing":
        return f"{name} is missing; add it"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return message if name == "the configuration" else f"{name}: {message}"
    shown = repr(detail["input"])
    return f"{name}: {message}, got {shown if len(shown) < 80 else shown[:77] + '...'}"


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation can hold, through unions, tuples and Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, UnionType, tuple):
        inner = [part for part in get_args(annotation) if part not in (NoneType, Ellipsis)]
        return [model for part in inner for model in _models(part)]
    return []


def _tag(model: type[BaseModel]) -> str | None:
    """The value that selects a model in a discriminated union (its kind or method)."""
    for key in _DISCRIMINATORS:
        field = model.model_fields.get(key)
        if field is not None and isinstance(field.default, str):
            return field.default
    return None


def _is_union_tag(part: Any, location: Sequence[Any]) -> bool:
    models: list[type[BaseModel]] = [Config]
    for step in location:
        tagged = [model for model in models if _tag(model) == step]
        if len(models) > 1 and tagged:
            if step is part:
                return True
            models = tagged
            continue
        models = _step_into(models, step)
    return False


def _step_into(models: list[type[BaseModel]], step: Any) -> list[type[BaseModel]]:
    if isinstance(step, int):
        return models
    fields = [model.model_fields[step] for model in models if step in model.model_fields]
    return [model for field in fields for model in _models(field.annotation)]


def _valid_keys(location: Sequence[Any]) -> list[str]:
    models: list[type[BaseModel]] = [Config]
    for step in location:
        tagged = [model for model in models if _tag(model) == step]
        models = tagged if len(models) > 1 and tagged else _step_into(models, step)
    return sorted({key for model in models for key in model.model_fields})
