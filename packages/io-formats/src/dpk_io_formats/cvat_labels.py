"""What CVAT's XML says about labels: names of keypoints, skeletons, and where the video is."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

import attrs

from dpk_core.errors import FileFormatError
from dpk_io_formats.plain_xml import parse_fragment


@attrs.frozen
class CvatSkeleton:
    """A skeleton label: its keypoints in order, and lines between them by their names."""

    names: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]


@attrs.define
class CvatMeta:
    """What the <meta> element says.

    skeletons by the name of their label; source, the name of the task's video; size (height,
    width) of its frames.
    """

    skeletons: dict[str, CvatSkeleton] = attrs.field(factory=dict)
    source: str = ""
    size: tuple[int, int] | None = None

    @classmethod
    def of(cls, element: Element, path: Path) -> CvatMeta:
        meta = cls()
        for label in element.iter("label"):
            name = _text(label, "name")
            if _text(label, "type") == "skeleton" and name and name not in meta.skeletons:
                meta.skeletons[name] = _skeleton(name, label, element, path)
        sources = [found.text or "" for found in element.iter("source")]
        meta.source = sources[0].strip() if len(sources) == 1 else ""
        for size in element.iter("original_size"):
            height, width = (_text(size, key) for key in ("height", "width"))
            if height.isdecimal() and width.isdecimal() and max(len(height), len(width)) < 7:
                meta.size = (int(height), int(width))
        return meta


def _skeleton(name: str, label: Element, meta: Element, path: Path) -> CvatSkeleton:
    """Keypoints are labels whose parent it is; lines stand in its drawing."""
    parts = [_text(part, "name") for part in meta.iter("label") if _text(part, "parent") == name]
    nodes: dict[str, str] = {}
    edges: list[tuple[str, str]] = []
    for shape in parse_fragment(_text(label, "svg"), path):
        if shape.tag == "circle":
            nodes[shape.get("data-node-id", "")] = shape.get("data-label-name", "")
        elif shape.tag == "line":
            edges.append((shape.get("data-node-from", ""), shape.get("data-node-to", "")))
    names = tuple(dict.fromkeys(part for part in [*parts, *nodes.values()] if part))
    if len(parts) > len(set(parts)):
        twice = next(part for part in parts if parts.count(part) > 1)
        raise FileFormatError(f"{path}: the keypoint {twice!r} stands twice in {name!r}")
    lines = [(nodes.get(a, ""), nodes.get(b, "")) for a, b in edges]
    return CvatSkeleton(names, tuple((a, b) for a, b in lines if a and b))


def _text(element: Element, tag: str) -> str:
    found = element.find(tag)
    return (found.text or "").strip() if found is not None else ""
