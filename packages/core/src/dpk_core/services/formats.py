"""Which file format a path has, and which one it shall get."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import attrs

from dpk_core.errors import (
    FileFormatError,
    FileMissingError,
    MissingDependencyError,
    PluginError,
    ValidationError,
)
from dpk_core.interfaces import PoseFormat
from dpk_core.services.plugins import registry
from dpk_core.specs import FormatSpec

OURS = "dpk"
"""Name of our own format, which yields to every other that claims a file."""


@attrs.frozen
class FoundFormat:
    """A format, loaded, and what is in the file that it was found for."""

    spec: FormatSpec
    format: PoseFormat
    kinds: tuple[str, ...]

    def kind(self, wanted: str | None = None) -> str:
        """What to read: ``wanted``, or what the format itself thinks of first.

        Raises
        ------
        ValidationError
            When that is not in the file.
        """
        if wanted is None:
            return self.kinds[0]
        if wanted not in self.kinds:
            raise ValidationError(
                f"there are no {wanted} in this {self.spec.name} file; it holds "
                f"{' and '.join(self.kinds)}"
            )
        return wanted


def format_specs() -> list[FormatSpec]:
    """All that are installed, by name."""
    return [spec for spec in registry().specs("formats") if isinstance(spec, FormatSpec)]


def get_format(name: str) -> tuple[FormatSpec, PoseFormat]:
    """The format of that name, loaded.

    Raises
    ------
    PluginError
        When there is none, with the nearest name, or it is broken.
    MissingDependencyError
        When it needs what is not installed.
    """
    spec = registry().get("formats", name)
    assert isinstance(spec, FormatSpec)
    if not spec.is_available:
        raise MissingDependencyError(
            f"the format {name} needs {', '.join(spec.requires)}; install it with: {spec.install}"
        )
    return spec, spec.load()()


def identify(path: str | PathLike[str], name: str | None = None) -> FoundFormat:
    """The format of a file or folder, judged by its content.

    Parameters
    ----------
    name
        Take this format instead of asking all of them.

    Raises
    ------
    FileMissingError
    FileFormatError
        When no format knows the file, or several do.
    PluginError, MissingDependencyError
        From `get_format`.
    """
    path = Path(path)
    if not path.exists():
        raise FileMissingError(f"nothing is at {path}")
    if name is not None:
        spec, found = get_format(name)
        return FoundFormat(spec, found, _kinds(spec, found, path))
    claims = _claims(path)
    if len(claims) > 1:
        claims = [claim for claim in claims if claim[0].name != OURS]
    if not claims:
        raise FileFormatError(
            f"{path} is in no format that is known here; `dpk formats` lists those that are. "
            "Another program's file may be cut short, or need an option (--from NAME) or another "
            "package (python -m pip install dpk-io-formats)"
        )
    if len(claims) > 1:
        names = ", ".join(spec.name for spec, _ in claims)
        raise FileFormatError(f"{path} may be any of {names}; say which with --from NAME")
    spec, found = claims[0]
    return FoundFormat(spec, found, _kinds(spec, found, path))


def target_spec(
    path: str | PathLike[str], kind: str, name: str | None = None, *, kinds: Sequence[str] = ()
) -> FormatSpec:
    """The format to write, by name or by the suffix of the path.

    Parameters
    ----------
    kinds
        All that the source holds, for a hint where the format takes another of them.

    Raises
    ------
    ValidationError
        When the format cannot hold this kind of data, or the suffix tells too little.
    PluginError
        When there is no format of that name.
    """
    if name is not None:
        spec = registry().get("formats", name)
        assert isinstance(spec, FormatSpec)
        if kind not in spec.writes:
            known = [s.name for s in format_specs() if kind in s.writes]
            can = f"writes {' and '.join(spec.writes)}" if spec.writes else "only reads"
            raise ValidationError(
                f"the format {name} {can}; for {kind} there are {', '.join(known) or 'none'}"
                f"{_other_kind(spec, kinds)}"
            )
        return spec
    able = [spec for spec in format_specs() if kind in spec.writes]
    fit = {spec.name: _fit(spec, Path(path)) for spec in able}
    best = max(fit.values(), default=0)
    found = [spec for spec in able if best and fit[spec.name] == best]
    ours = [spec for spec in found if spec.name == OURS]
    if len(found) == 1 or ours:
        return (ours or found)[0]
    names = ", ".join(spec.name for spec in found or able)
    others = [] if found else [s for s in format_specs() if s.writes and _fit(s, Path(path))]
    if others:
        spec = max(others, key=lambda s: _fit(s, Path(path)))
        raise ValidationError(
            f"{Path(path).name} would be {spec.name}, which holds {' and '.join(spec.writes)} and "
            f"no {kind}{_other_kind(spec, kinds)}; add one of --to {names} for another format"
        )
    raise ValidationError(
        f"the name {Path(path).name} does not say in which format to write {kind}; add one of "
        f"--to {names}"
    )


def _claims(path: Path) -> list[tuple[FormatSpec, PoseFormat]]:
    claims = []
    for spec in format_specs():
        if not spec.reads or not spec.is_available:
            continue
        try:
            found = spec.load()()
        except PluginError as error:  # one broken plugin does not keep the others from reading
            warnings.warn(str(error), stacklevel=3)
            continue
        if found.sniff(path):
            claims.append((spec, found))
    return claims


def _kinds(spec: FormatSpec, found: PoseFormat, path: Path) -> tuple[str, ...]:
    if not spec.reads:
        raise ValidationError(f"the format {spec.name} only writes; nothing reads {path} with it")
    kinds = tuple(kind for kind in found.kinds(path) if kind in spec.reads)
    if not kinds:
        raise FileFormatError(f"{path} is a {spec.name} file without {' or '.join(spec.reads)}")
    return kinds


def _other_kind(spec: FormatSpec, kinds: Sequence[str]) -> str:
    """A hint at what else of the source the format takes."""
    fit = [kind for kind in kinds if kind in spec.writes]
    return f"; take the {fit[0]} with --kind {fit[0]}" if fit else ""


def _fit(spec: FormatSpec, path: Path) -> int:
    """How well a name fits: the length of the suffix that it ends with, 0 for none."""
    name = path.name.lower()
    return max((len(s) for s in spec.suffixes if name.endswith(s.lower())), default=0)
