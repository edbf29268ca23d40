"""Settings of other programs in YAML: plain data alone, of a size that settings have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from dpk_core.errors import FileFormatError

_LARGEST = 2**22
_MOST_VALUES = 10**6
"""Aliases let some hundred bytes stand for billions of values."""


class _Loader(yaml.SafeLoader):
    """Plain data alone, and the tuples that early versions of DeepLabCut wrote."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge keys (``<<``), which multiply like aliases, are left for the error they become."""


_Loader.add_constructor(
    "tag:yaml.org,2002:python/tuple", lambda loader, node: loader.construct_sequence(node)
)


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a YAML file.

    Raises
    ------
    FileFormatError
        Also for tags that would make objects, and aliases that unfold beyond any settings.
    """
    if path.stat().st_size > _LARGEST:
        raise FileFormatError(f"{path} is larger than any settings are")
    try:
        settings = yaml.load(path.read_bytes().decode("utf-8-sig"), Loader=_Loader)
    except (
        yaml.YAMLError, ValueError, OverflowError, RecursionError, TypeError, AttributeError,
    ) as error:  # fmt: skip
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileFormatError(f"{path} is not readable YAML: {reason}") from None
    if not isinstance(settings, dict):
        raise FileFormatError(f"{path}: expected settings (name: value), found none")
    _check_size(settings, path)
    return settings


def _check_size(settings: Any, path: Path) -> None:
    waiting, count = [settings], 0
    while waiting:
        value = waiting.pop()
        count += 1
        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set)):
            waiting += value
        if count + len(waiting) > _MOST_VALUES:
            raise FileFormatError(f"{path} unfolds to more than {_MOST_VALUES} values; refused")
