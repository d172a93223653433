"""Arms of a study and their trainings, without Ray."""

from pathlib import Path

import pytest

from feature_store.core.errors import UserError
from feature_store.core.files import write_json
from recsys.config.study import Arm
from recsys.studies import units as study_units
from recsys.studies.arms import arms_of, trials_of
from tests.support.planted import planted_config

# A configuration whose data are never read.
CONFIG = planted_config(Path("log"), Path("out"))


def test_whole_numbers_of_a_range_are_tried_as_such():
    space = {"training.batch_size": {"low": 64, "high": 512, "log": True}}
    tried = trials_of(CONFIG, "none", Arm(space=space), 4)
    assert all(type(each["training.batch_size"]) is int for each in tried[1:])
    space = {"loss.temperature": {"low": -1, "high": 1}}
    with pytest.raises(UserError, match=r"study\.arms\.none\.space\.loss\.temperature: "):
        trials_of(CONFIG, "none", Arm(space=space), 4)


@pytest.mark.parametrize("path", ["training.seed", "training.ray.workers", "training.start"])
def test_what_a_study_sets_is_no_setting_of_an_arm(path):
    arms = {"none": Arm(values={path: 1}), "other": Arm()}
    study = CONFIG.study.model_copy(update={"arms": arms})
    with pytest.raises(UserError, match=f"study.arms.none: {path} has no effect"):
        arms_of(CONFIG.model_copy(update={"study": study}))


def test_trainings_that_failed_are_tried_again(monkeypatch, tmp_path):
    units, ran = [], []
    for error in ("the store did not answer", None):
        own = CONFIG.model_copy(update={"output": str(tmp_path / str(error))})
        units.append(study_units.Unit(str(error), own, is_tested=False))
        units[-1].directory.mkdir()
        result = study_units.UnitResult(validation=None if error else 0.5, error=error)
        write_json(units[-1].directory / study_units.RESULT, result.model_dump(mode="json"))
    monkeypatch.setattr(study_units, "_run_on_ray", lambda waiting, *_: ran.extend(waiting))
    study_units.run_units(units, None, print)
    assert ran == units[:1]
