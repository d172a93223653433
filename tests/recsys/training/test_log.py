"""The file of metrics that a training resumes."""

import pytest
import torch

from feature_store.core.errors import UserError
from recsys.training.launch import single_process_group
from recsys.training.log import MetricsFile

LINES = '{"step": 1, "loss": 0.1}\n{"step": 2, "loss": null}\n'


def test_lines_of_steps_that_are_done_again_are_cut_off(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(LINES + '{"step": 3, "loss": 0.3}\n{"st')
    with single_process_group(torch.device("cpu")):
        MetricsFile(path, 2).append(3, {"loss": 0.5})
        assert path.read_text() == LINES + '{"step": 3, "loss": 0.5}\n'
        path.write_text(LINES + "nothing\n")
        with pytest.raises(UserError, match=r"metrics\.jsonl is damaged; remove .* train again"):
            MetricsFile(path, 2)
