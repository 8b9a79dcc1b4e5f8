"""YAML of strangers as plain values: bounded, and whatever cannot be read is an error of one line."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import CollectionNode, Node

from trackweave.errors import SettingError, shortened_line

MOST_CHARACTERS = 1 << 18
MOST_VALUES = 100_000
"""Values of a text; nine lines of aliases can stand for billions."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc] # PyYAML has no types
    """A loader whose errors tell the line, of values too that PyYAML takes for numbers or dates and cannot build."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep=deep)
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise ValueError("a number out of range")
            return value
        except (ValueError, TypeError, OverflowError, LookupError, AttributeError) as error:  # such as 2023-02-30
            raise ConstructorError(None, None, str(error), node.start_mark) from None


def parse_yaml(text: str) -> Any:
    """What a YAML text holds.

    Raises:
        ValueError: it is not YAML; one short line.
        SettingError: a value that cannot be built, aliases that stand for more than `MOST_VALUES` values, or a text of
            more than `MOST_CHARACTERS`.
    """
    if len(text) > MOST_CHARACTERS:
        raise SettingError(f"{len(text)} characters: settings take at most {MOST_CHARACTERS}")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return loader.construct_document(node)
    except ConstructorError as error:
        raise SettingError(_described(error)) from None
    except yaml.MarkedYAMLError as error:
        raise ValueError(_described(error)) from None
    except yaml.YAMLError as error:
        raise ValueError(shortened_line(str(error))) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _described(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    line = "" if mark is None else f"line {mark.line + 1}: "
    return shortened_line(f"{line}{error.problem or error.context}")


def _count(node: Node, known: dict[int, int]) -> int:
    """Values that a node stands for, those behind aliases each time; `known` has those that were counted, 0 those
    that are being counted.

    Raises:
        SettingError: too many, or a node that holds itself.
    """
    if not isinstance(node, CollectionNode):
        return 1
    if id(node) in known:
        if not known[id(node)]:
            raise SettingError(f"line {node.start_mark.line + 1}: an alias holds itself")
        return known[id(node)]
    known[id(node)] = 0
    total = 1
    for child in node.value:
        total += sum(_count(each, known) for each in (child if isinstance(child, tuple) else (child,)))
    if total > MOST_VALUES:
        raise SettingError(f"line {node.start_mark.line + 1}: stands for more than {MOST_VALUES} values")
    known[id(node)] = total
    return total
