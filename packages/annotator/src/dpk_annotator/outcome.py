"""What comes of an edit: it is done and on disk, or somebody else was quicker."""

from __future__ import annotations

import attrs

from dpk_annotator.row_state import RowState


@attrs.frozen
class Applied:
    """What was done and is on disk.

    Parameters
    ----------
    revision
        Of the set, and of every image that was changed.
    rows
        The images, the first one first; empty when it was about none.
    state
        Of the first image; None when there is none.
    merged
        True when others had changed other parts of these images meanwhile; both are kept.
    """

    revision: int
    rows: tuple[int, ...]
    state: RowState | None
    merged: bool = False


@attrs.frozen
class Conflict:
    """Nothing was done, for somebody else has changed the same since.

    Parameters
    ----------
    row
        The image; None for the skeleton.
    base_revision, revision
        What the edit was made on, and what there is now. To insist, send it again on the latter.
    client, time
        Who was quicker, and when (seconds since 1970).
    parts
        What both touch: keypoints as ``.NAME``, ``flag``, ``note``, ``finished``.
    yours, theirs
        The image as the edit would have left it, and as it is; None for the skeleton.
    message
        The same in words.
    """

    row: int | None
    base_revision: int
    revision: int
    client: str
    time: float
    parts: tuple[str, ...]
    yours: RowState | None
    theirs: RowState | None
    message: str
