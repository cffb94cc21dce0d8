"""The Selection: which units of which weights are trained, and why. It is a readable file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from sparseft.errors import SelectionError
from sparseft.files import read_json, write_json
from sparseft.selection.ranges import from_ranges, to_ranges
from sparseft.selection.units import Kind, Structure

__all__ = ["Choice", "ModuleSelection", "Selection", "VectorSelection"]

FORMAT = "sparseft.selection"
# 1: no vectors. A file is of the lowest version that can say what it holds, so that older releases
# read what they understand.
VERSION = 2


@dataclass(frozen=True, eq=False)
class Choice:
    """The chosen units of one group, each with its score (three significant digits in the file)."""

    kind: Kind
    layer: int
    label: str
    units: NDArray[np.int64]
    scores: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ModuleSelection:
    """The chosen entries of one weight of shape [n, k].

    `index` is sorted and free of duplicates: rows, columns, flat blocks or flat elements.
    `bias` says that the bias entries of the chosen rows are trained too.
    """

    module: str
    structure: Structure
    index: NDArray[np.int64]
    shape: tuple[int, int]
    bias: bool = False
    edge: int = 0

    def __post_init__(self) -> None:
        rows, columns = self.shape
        limit = {
            "rows": rows,
            "embedding": rows,
            "columns": columns,
            "elements": rows * columns,
            "blocks": (rows // self.edge) * (columns // self.edge) if self.edge else 0,
        }.get(self.structure)
        if limit is None:
            raise SelectionError(
                f"expected a structure of {', '.join(get_args(Structure))}, got "
                f"{self.structure!r} for {self.module}; the selection is damaged."
            )
        increasing = bool(np.all(np.diff(self.index) > 0))
        inside = self.index.size == 0 or (self.index[0] >= 0 and self.index[-1] < limit)
        if not (increasing and inside):
            raise SelectionError(
                f"expected sorted, distinct {self.structure} below {limit} for {self.module}, "
                f"got {self.index[:8].tolist()}…; sort them and drop duplicates."
            )

    @property
    def weights(self) -> int:
        """How many entries of the weight are chosen (bias entries not counted)."""
        rows, columns = self.shape
        each = {"rows": columns, "embedding": columns, "columns": rows, "elements": 1}
        return int(self.index.size) * each.get(self.structure, self.edge * self.edge)

    @property
    def trained(self) -> int:
        """How many numbers are trained, bias entries included."""
        return self.weights + (int(self.index.size) if self.bias else 0)


@dataclass(frozen=True)
class VectorSelection:
    """Vectors of one module that are trained whole: "weight", "bias", or both, of `size` each."""

    module: str
    parameters: tuple[str, ...]
    size: int

    def __post_init__(self) -> None:
        known = self.parameters in (("weight",), ("bias",), ("weight", "bias"))
        if not known or self.size < 1:
            raise SelectionError(
                f"expected weight, bias or both, of a size above 0, got {self.parameters} of "
                f"{self.size} for {self.module}; the selection is damaged."
            )

    @property
    def trained(self) -> int:
        """How many numbers are trained."""
        return self.size * len(self.parameters)


@dataclass(frozen=True, eq=False)
class Selection:
    """A solved selection.

    Attributes:
        modules: chosen entries by weight.
        choices: the same by unit, with scores.
        num_layers, lowest_layer: depth; -1 where embedding rows are trained.
        backbone_parameters: the denominator of `density`.
        base_hash: of the base model's weights without its head.
        head: names of the modules that are trained densely and are new to the model.
        layer_names: module name of each layer, for maps and reports.
        info: how it was made: budget, saliency, score, control, seed, data, predicted step share.
        vectors: biases and norms that are trained whole, beside the units.
    """

    modules: tuple[ModuleSelection, ...]
    choices: tuple[Choice, ...]
    num_layers: int
    lowest_layer: int
    backbone_parameters: int
    base_hash: str
    head: tuple[str, ...]
    layer_names: tuple[str, ...]
    info: Mapping[str, Any] = field(default_factory=dict)
    vectors: tuple[VectorSelection, ...] = ()

    @property
    def trained(self) -> int:
        """How many numbers of the backbone are trained."""
        of_modules = sum(module.trained for module in self.modules)
        return of_modules + sum(vector.trained for vector in self.vectors)

    @property
    def density(self) -> float:
        """Share of the backbone's parameters that is trained."""
        return self.trained / self.backbone_parameters

    def units_by_kind(self) -> dict[str, int]:
        """Number of chosen units of each kind."""
        counts: dict[str, int] = {}
        for choice in self.choices:
            counts[choice.kind] = counts.get(choice.kind, 0) + int(choice.units.size)
        return counts

    def heat_map(self) -> dict[str, Any]:
        """Share of each layer's weights that is trained, by the weight's place in the layer.

        Returns:
            {"layers": L, "modules": [name…], "share": L rows of one share per module}; the
            embedding, where trained, is a module with its share in the row of layer 0.
        """
        places: list[str] = []
        cells: dict[tuple[int, str], float] = {}
        for module in self.modules:
            layer, place = self._place(module.module)
            if place not in places:
                places.append(place)
            cells[layer, place] = module.weights / (module.shape[0] * module.shape[1])
        share = [
            [round(cells.get((layer, place), 0.0), 6) for place in places]
            for layer in range(self.num_layers)
        ]
        return {"layers": self.num_layers, "modules": places, "share": share}

    def _place(self, module: str) -> tuple[int, str]:
        for layer, name in enumerate(self.layer_names):
            if module.startswith(f"{name}."):
                return layer, module[len(name) + 1 :]
        return 0, module

    def to_dict(self) -> dict[str, Any]:
        """The content of the file."""
        return {
            "format": FORMAT,
            "version": VERSION if self.vectors else 1,
            "density": self.density,
            "trained": self.trained,
            "backbone_parameters": self.backbone_parameters,
            "num_layers": self.num_layers,
            "lowest_layer": self.lowest_layer,
            "base_hash": self.base_hash,
            "head": list(self.head),
            "layer_names": list(self.layer_names),
            "info": dict(self.info),
            "modules": [
                {
                    "module": m.module,
                    "structure": m.structure,
                    "index": to_ranges(m.index),
                    "shape": list(m.shape),
                    "bias": m.bias,
                    "edge": m.edge,
                }
                for m in self.modules
            ],
            "choices": [
                {
                    "kind": c.kind,
                    "layer": c.layer,
                    "label": c.label,
                    "units": to_ranges(c.units),
                    "scores": [float(f"{score:.3g}") for score in c.scores],
                }
                for c in self.choices
            ],
            **({"vectors": self._vectors_to_list()} if self.vectors else {}),
        }

    def _vectors_to_list(self) -> list[dict[str, Any]]:
        return [
            {"module": v.module, "parameters": list(v.parameters), "size": v.size}
            for v in self.vectors
        ]

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Selection:
        """Read `to_dict`'s output.

        Raises:
            SelectionError: another format or version, or a missing or damaged part.
        """
        if content.get("format") != FORMAT or content.get("version") not in (1, VERSION):
            raise SelectionError(
                f"expected {FORMAT} version 1 or {VERSION}, got {content.get('format')!r} version "
                f"{content.get('version')!r}; make the selection again with this release."
            )
        try:
            return cls(
                modules=tuple(
                    ModuleSelection(
                        m["module"],
                        m["structure"],
                        from_ranges(m["index"]),
                        (int(m["shape"][0]), int(m["shape"][1])),
                        bool(m["bias"]),
                        int(m["edge"]),
                    )
                    for m in content["modules"]
                ),
                choices=tuple(
                    Choice(
                        c["kind"],
                        int(c["layer"]),
                        c["label"],
                        from_ranges(c["units"]),
                        np.asarray(c["scores"], dtype=np.float64),
                    )
                    for c in content["choices"]
                ),
                num_layers=int(content["num_layers"]),
                lowest_layer=int(content["lowest_layer"]),
                backbone_parameters=int(content["backbone_parameters"]),
                base_hash=content["base_hash"],
                head=tuple(content["head"]),
                layer_names=tuple(content["layer_names"]),
                info=content["info"],
                vectors=tuple(
                    VectorSelection(v["module"], tuple(v["parameters"]), int(v["size"]))
                    for v in content.get("vectors", ())
                ),
            )
        except (KeyError, TypeError, IndexError) as error:
            raise SelectionError(
                f"expected a complete selection, got {error!r}; the file is damaged, make it again."
            ) from error

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the selection as JSON, atomically."""
        return write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Selection:
        """Read a selection file.

        Raises:
            SelectionError: missing, no JSON, or not a selection of this version.
        """
        return cls.from_dict(read_json(path, SelectionError))
