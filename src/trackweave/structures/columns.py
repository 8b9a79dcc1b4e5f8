"""`Columns`: the base of every record that holds rows as columns of one length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import chain
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from trackweave.masks.packed import PackedMasks, as_rows

Index = int | np.integer[Any] | slice | NDArray[np.bool_] | NDArray[np.integer[Any]] | Sequence[int]
"""What selects rows: one position, a slice, a boolean mask, or positions in any order."""


class Columns:
    """N rows as columns of one length; indexing gives the same type. Base of frozen dataclasses.

    Every field of the dataclass is a column unless `SHARED` names it. A column is a numpy array with rows along its
    first axis, `PackedMasks`, a plain sequence, None where it is absent, or a mapping of further columns by name.

    Raises:
        ValueError: columns of different lengths.
    """

    SHARED: ClassVar[tuple[str, ...]] = ()
    """Fields that belong to all rows together, such as the file that they come from."""

    def __post_init__(self) -> None:
        """Holds all columns to one length."""
        columns = self._columns()
        first, column = next(columns)
        n = len(column)
        for name, column in columns:
            if len(column) != n:
                raise ValueError(f"columns of different lengths: {n} of {first}, but {len(column)} of {name}")

    def _columns(self) -> Iterator[tuple[str, Any]]:
        """Every column that is there, with its name."""
        for name in _column_fields(type(self)):
            column = getattr(self, name)
            if isinstance(column, Mapping):
                yield from column.items()
            elif column is not None:
                yield name, column

    def __len__(self) -> int:
        return len(getattr(self, _column_fields(type(self))[0]))

    def __getitem__(self, index: Index) -> Self:
        return self._replaced(_row_slice(index, len(self)) if isinstance(index, int | np.integer) else as_rows(index))

    def _replaced(self, chosen: slice | NDArray[Any]) -> Self:
        """These rows of all columns, checked like any record of this type."""
        selection = object.__new__(type(self))
        values = dict(self.__dict__)
        for name in _column_fields(type(self)):
            values[name] = _rows(values[name], chosen)
        selection.__dict__.update(values)
        selection.__post_init__()
        return selection

    @classmethod
    def empty(cls) -> Self:
        """A record of no rows."""
        raise NotImplementedError

    @classmethod
    def concat(cls, parts: Sequence[Self]) -> Self:
        """One record of several; an optional column survives only when every part that has rows has it.

        Fields in `SHARED` are the first part's.
        """
        parts = [part for part in parts if len(part)]
        if not parts:
            return cls.empty()
        values = dict(parts[0].__dict__)
        for name in _column_fields(cls):
            values[name] = _joined([getattr(part, name) for part in parts])
        return cls(**values)


_FIELDS: dict[type, tuple[str, ...]] = {}


def _column_fields(cls: type[Columns]) -> tuple[str, ...]:
    """Names of the columns, looked up once per type: records are indexed on every frame."""
    if cls not in _FIELDS:
        _FIELDS[cls] = tuple(field.name for field in fields(cls) if field.name not in cls.SHARED)  # type: ignore[arg-type]
    return _FIELDS[cls]


def _row_slice(index: int | np.integer[Any], n: int) -> slice:
    row = int(index) + n if index < 0 else int(index)
    if not 0 <= row < n:
        raise IndexError(f"row {index} of {n}")
    return slice(row, row + 1)


def _rows(column: Any, chosen: slice | NDArray[Any]) -> Any:
    """The chosen rows of one column of any kind."""
    if column is None or isinstance(column, np.ndarray | PackedMasks):
        return None if column is None else column[chosen]
    if isinstance(column, Mapping):
        return {name: _rows(further, chosen) for name, further in column.items()}
    if isinstance(chosen, slice):
        return column[chosen]
    positions = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen
    return [column[position] for position in positions]


def _joined(columns: Sequence[Any]) -> Any:
    """One column of several of a kind; None when one of them is absent."""
    if any(column is None for column in columns):
        return None
    first = columns[0]
    if isinstance(first, PackedMasks):
        return PackedMasks.concat(columns)
    if isinstance(first, Mapping):
        names = [name for name in first if all(name in further for further in columns)]
        return {name: _joined([further[name] for further in columns]) for name in names}
    if isinstance(first, np.ndarray):
        return np.concatenate(columns)
    return list(chain.from_iterable(columns))
