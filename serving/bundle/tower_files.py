"""The files of a bundle's towers: weights, and the settings from which their layers are made.

towers.json                  `TowerSettings`
item_tower/, query_tower/    tensors of `ItemNetwork` and `QueryNetwork`, see `read_tensors`; and
                             probe.npy, vectors of made-up rows, see `probe_vectors`

They hold no code: the layers are this package's own, and the tensors must be exactly theirs. A
version whose layers compute something else is found out by the probe.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from feature_store.core.errors import UserError
from feature_store.core.files import FLOATS, mapped_numbers, write_array, write_text
from feature_store.core.settings import Frozen
from feature_store.schema import FeatureGroup, FeatureSchema
from recsys.config.model import ModelConfig
from recsys.model.history import JoinedEncoders
from recsys.model.history.histories import HistoryContext
from recsys.model.side_inputs import SideInputs, feature_input
from recsys.model.tower import Tower
from serving.bundle.manifest import ITEM_TOWER, QUERY_TOWER, TOWERS
from serving.bundle.networks import ItemNetwork, QueryNetwork, SideLookup
from serving.bundle.probe import probe_vectors
from serving.bundle.tensors import read_tensors, write_tensors
from serving.bundle.towers import ServedTower

_Network = TypeVar("_Network", ItemNetwork, QueryNetwork)

_PROBE = "probe.npy"
# Numbers of a vector that differ by no more are equal.
_NEAR = 1e-4


class TowerSettings(Frozen):
    """The contents of towers.json.

    Attributes:
        model: Settings of the towers and of the history encoders.
        max_length: Longest history, in items.
    """

    model: ModelConfig
    max_length: int


def write_towers(
    directory: Path,
    schema: FeatureSchema,
    settings: TowerSettings,
    item: ItemNetwork,
    query: QueryNetwork,
) -> None:
    """Writes the files of a bundle's towers."""
    write_text(directory / TOWERS, settings.model_dump_json(indent=2) + "\n")
    networks: dict[str, ItemNetwork | QueryNetwork] = {ITEM_TOWER: item, QUERY_TOWER: query}
    for name, network in networks.items():
        write_tensors(directory / name, network.state_dict())
        write_array(directory / name / _PROBE, probe_vectors(network.eval(), schema))


def read_item_tower(directory: Path, schema: FeatureSchema) -> ServedTower:
    """Reads the item tower of a bundle.

    Raises:
        UserError: The files are not those of such a tower.
    """
    layers = _Layers(directory, ITEM_TOWER, schema)
    return ServedTower(layers.with_weights(layers.item), schema.item)


def read_query_tower(directory: Path, schema: FeatureSchema) -> ServedTower:
    """Reads the query tower of a bundle.

    Raises:
        UserError: The files are not those of such a tower.
    """
    layers = _Layers(directory, QUERY_TOWER, schema)
    return ServedTower(layers.with_weights(layers.query), schema.query, schema.context)


class _Layers:
    """The layers that the files of a bundle describe.

    Args:
        directory: Directory of the bundle.
        name: Name of the tower's directory in it.
        schema: Features.
    """

    def __init__(self, directory: Path, name: str, schema: FeatureSchema) -> None:
        self._path = directory / name
        self._schema = schema
        self._tensors = read_tensors(self._path)
        try:
            text = (directory / TOWERS).read_text(encoding="utf-8")
            self._settings = TowerSettings.model_validate_json(text)
        except (OSError, ValueError) as error:
            raise self._fault() from error

    def with_weights(self, make: Callable[[torch.device], _Network]) -> _Network:
        """Makes a network of the tensors.

        Raises:
            UserError: The tensors are not exactly those of the network.
        """
        found = {name: tensor.shape for name, tensor in self._tensors.items()}
        try:
            # Without memory, for the settings may describe a network of any size.
            described = make(torch.device("meta")).state_dict()
        except (ValueError, RuntimeError) as error:
            raise self._fault() from error
        if found != {name: tensor.shape for name, tensor in described.items()}:
            raise self._fault()
        with torch.random.fork_rng(devices=[]):  # Layers draw weights, which are replaced.
            network = make(torch.device("cpu"))
        network.load_state_dict(self._tensors, assign=True)
        self._compare(network.eval())
        return network

    def _compare(self, network: ItemNetwork | QueryNetwork) -> None:
        """Raises a UserError where the network computes others than the exported vectors."""
        try:
            expected = mapped_numbers(self._path / _PROBE, FLOATS, 2)
            found = probe_vectors(network, self._schema)
            if found.shape != expected.shape:
                raise ValueError(f"the probe is of {expected.shape} numbers")
        except (OSError, ValueError, RuntimeError, IndexError) as error:
            raise self._fault() from error
        # An export of vectors that are not numbers is refused by its gate, which says so.
        if not np.allclose(found, expected, rtol=0, atol=_NEAR, equal_nan=True):
            raise UserError(
                f"{self._path} is of a version of recsys whose layers compute something else; "
                "export the model again."
            )

    def item(self, device: torch.device) -> ItemNetwork:
        """Makes the item tower."""
        model, lookup = self._settings.model, self._lookup("item", device)
        return ItemNetwork(lookup, Tower(lookup.inputs.dim, model.item_tower, model, device))

    def query(self, device: torch.device) -> QueryNetwork:
        """Makes the query tower."""
        model = self._settings.model
        dim = sum(feature.dim for feature in self._schema.item)
        lookup, context = self._lookup("query", device), self._lookup("context", device)
        max_length = self._settings.max_length
        history = JoinedEncoders(model.history, HistoryContext(dim, max_length, device))
        width = lookup.inputs.dim + context.inputs.dim + history.dim
        return QueryNetwork(
            lookup,
            context,
            history,
            Tower(width, model.query_tower, model, device),
            torch.empty(self._rows("items"), dim, device=device),
            torch.empty(dim, device=device),
        )

    def _lookup(self, group: FeatureGroup, device: torch.device) -> SideLookup:
        prefix = "context" if group == "context" else "lookup"
        features = [feature_input(group, feature, 1) for feature in self._schema.of(group)]
        tables = {
            f.table: torch.empty(self._rows(f"{prefix}.tables.{f.table}"), f.dim, device=device)
            for f in features
            if f.num_embeddings
        }
        return SideLookup(SideInputs(features, device), tables)

    def _rows(self, name: str) -> int:
        """Returns the rows of a table, of which the settings do not say how many there are."""
        tensor = self._tensors.get(name)
        return 1 if tensor is None or not tensor.dim() else len(tensor)

    def _fault(self) -> UserError:
        return UserError(
            f"{self._path} does not hold the weights of the layers that {TOWERS} describes; export "
            "the model again."
        )
