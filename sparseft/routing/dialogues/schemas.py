"""The schemas of SGD: services, their slots, and which of these are categorical."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparseft.errors import DataError
from sparseft.routing.dialogues.tables import data_file

__all__ = ["Service", "ServiceSlot", "read_schemas"]


@dataclass(frozen=True)
class ServiceSlot:
    """A slot of a service.

    Attributes:
        name: without the service's.
        description: in words.
        categorical: whether its value is one of `values`; beside them `dontcare` occurs.
        values: the possible ones; of a slot that is not categorical mere examples, or none.
    """

    name: str
    description: str
    categorical: bool
    values: tuple[str, ...]


@dataclass(frozen=True)
class Service:
    """A service.

    Attributes:
        name: such as Restaurants_2.
        description: in words.
        slots: by name; in a state they are called SERVICE-SLOT.
        splits: those of the data set in which it occurs: train, dev, test.
    """

    name: str
    description: str
    slots: Mapping[str, ServiceSlot]
    splits: tuple[str, ...]

    @property
    def described(self) -> dict[str, str]:
        """SERVICE-SLOT to a description, as a prompt lists slots."""
        return {
            f"{self.name}-{slot.name}": slot.description
            + (f" (one of: {', '.join(slot.values)})" if slot.categorical else "")
            for slot in self.slots.values()
        }


def read_schemas(root: str | Path | None = None) -> dict[str, Service]:
    """The 45 services of all splits by name, from sgd/schemas.json.gz.

    Args:
        root: the folder of the data sets, see `tables.data_file`.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = data_file(root, "sgd", "schemas.json.gz")
    try:
        content = json.loads(gzip.decompress(path.read_bytes()))
        return {name: _service(name, value) for name, value in content.items()}
    except (
        OSError,
        EOFError,
        zlib.error,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        raise DataError(
            f"expected SGD's schemas by service in {path}, got: {error!r}; fetch the file again."
        ) from error


def _service(name: str, value: Mapping[str, Any]) -> Service:
    slots = (
        ServiceSlot(
            str(slot["name"]),
            str(slot["description"]),
            bool(slot["is_categorical"]),
            tuple(map(str, slot["possible_values"])),
        )
        for slot in value["slots"]
    )
    return Service(
        name,
        str(value["description"]),
        {slot.name: slot for slot in slots},
        tuple(map(str, value["splits"])),
    )
