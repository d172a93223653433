"""The page of an evaluation: all that there is to read of a run, in one file."""

import json
from collections.abc import Sequence
from typing import Any

from pipelines.prepared.reader import Prepared
from pipelines.reports.opening import Verdict
from pipelines.reports.parts import Code, Entry, Facts, Page, Part, Section
from recsys.config.config import Config
from recsys.evaluation.results import EvaluationResult
from recsys.reports.data import features_section, prepared_section
from recsys.reports.item_map import map_section
from recsys.reports.long_tail import tail_section
from recsys.reports.lookup import examples_section, similar_section
from recsys.reports.opening import run_opening
from recsys.reports.ranking import ranking_section
from recsys.reports.results import results_section
from recsys.reports.run.run_data import RunData
from recsys.reports.slices import slices_section
from recsys.reports.training import diagnostics_sections, training_section


def evaluation_page(
    run: RunData,
    prepared: Prepared,
    config: Config,
    best_step: int,
    champion: Sequence[Verdict] = (),
) -> Page:
    """Returns the page.

    Args:
        run: Run with the files of its evaluation.
        prepared: Data that it was trained on.
        config: Configuration as trained.
        best_step: Step of the checkpoint that was kept.
        champion: Verdict against the champion; empty where there is none.
    """
    result = run.result
    assert result is not None, "the evaluation writes its figures first"
    return Page(
        title="Evaluation of a two-tower model",
        query=result.query,
        lead=f"Experiment {run.name}, MLflow run {result.mlflow_run_id}",
        opening=run_opening(run, champion),
        sections=[
            results_section(run),
            ranking_section(run),
            slices_section(run),
            tail_section(run),
            training_section(run.curves, best_step),
            *diagnostics_sections(run.curves, run.masks, best_step),
            map_section(run),
            examples_section(run),
            similar_section(run),
            prepared_section(prepared.manifest, run),
            features_section(prepared.mutual_information),
            _configuration(config, result),
        ],
    )


def _configuration(config: Config, result: EvaluationResult) -> Section:
    training = config.training
    history = config.data.history
    features = {
        "Item features": config.features.item,
        "Query features": config.features.query,
        "Context features": config.features.context,
    }
    facts = {
        "Split": config.data.split.kind,
        "History": f"{history.kind}, up to {history.max_length} items",
        "Items that a query has had": f"{result.repeats} (data.repeats)",
        **{
            title: ", ".join(f"{each.name} ({each.kind})" for each in several) or "none"
            for title, several in features.items()
        },
        "Vectors": f"{config.model.dim} numbers",
        "Self-supervision": config.ssl.method,
        "Training": f"{training.epochs} epochs at most, batches of {training.batch_size:,}, seed "
        f"{training.seed}",
        "Prepared data": result.prepared_fingerprint,
        "Training fingerprint": result.training_fingerprint,
    }
    whole: dict[str, Any] = config.model_dump(mode="json")
    code = Code(json.dumps(whole, indent=2, ensure_ascii=False))
    parts: list[Part] = [Facts(list(facts.items())), Entry("The whole configuration", [code])]
    return Section("configuration", "Configuration", parts)
