"""What a conversion between file formats could not carry over, item by item."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from dpk_core.errors import ValidationError


@attrs.frozen
class Loss:
    """One kind of thing that was left behind.

    Parameters
    ----------
    what
        In the plural, as a user calls it: "skeleton edges", "visibilities".
    count
        How many of them.
    why
        One clause: "closes a circle, and a skeleton is made of trees".
    """

    what: str
    count: int
    why: str

    def __str__(self) -> str:
        return f"{self.count} {self.what}: {self.why}"


class LossReport:
    """Collects what readers and writers leave behind; falsy while nothing is lost.

    Examples
    --------
    >>> report = LossReport()
    >>> report.add("visibilities", 3, "the target knows no hidden keypoints")
    >>> report.add("visibilities", 2, "the target knows no hidden keypoints")
    >>> report.add("scores", 0, "the target has none")
    >>> print(report)
    5 visibilities: the target knows no hidden keypoints
    """

    def __init__(self) -> None:
        self._losses: dict[tuple[str, str], int] = {}

    def add(self, what: str, count: int, why: str) -> None:
        """Count more of one kind; nothing happens for a count of 0, so that none need ask."""
        if count < 0:
            raise ValidationError(f"count: expected a number from 0, found {count}")
        if count:
            self._losses[what, why] = self._losses.get((what, why), 0) + int(count)

    def __iter__(self) -> Iterator[Loss]:
        for (what, why), count in self._losses.items():
            yield Loss(what, count, why)

    def __len__(self) -> int:
        return len(self._losses)

    def __str__(self) -> str:
        return "\n".join(map(str, self)) or "nothing lost"

    def __repr__(self) -> str:
        return f"LossReport({'; '.join(map(str, self))})"
