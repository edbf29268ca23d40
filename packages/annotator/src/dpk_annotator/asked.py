"""Who asks for a change of labels, on what, and whether it was asked for before: checked."""

from __future__ import annotations

from typing import Any

import attrs

from dpk_core.errors import ValidationError

FILE = "(the file)"
"""Who made the changes that were found in the HDF5 file."""

_LONGEST = 200


def _check_client(_: Any, __: Any, client: object) -> None:
    if not _is_short_text(client):
        raise ValidationError(
            f"client: expected a name of 1 to {_LONGEST} printable characters, found {client!r}"
        )
    if client == FILE:
        raise ValidationError(f"client: {FILE!r} stands for changes made in the file itself")


def _check_revision(_: Any, __: Any, base: object) -> None:
    if isinstance(base, bool) or not isinstance(base, int) or base < 0:
        raise ValidationError(f"revision: expected a number from 0, found {base!r}")


def _check_token(_: Any, __: Any, token: object) -> None:
    if token is not None and not _is_short_text(token):
        raise ValidationError(
            f"token: expected a text of 1 to {_LONGEST} printable characters, found {token!r}"
        )


def _is_short_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST and value.isprintable()


@attrs.frozen
class Asked:
    """What comes with every request to change something.

    Parameters
    ----------
    client
        Who asks; undo goes by it.
    base
        The revision that the client has seen.
    token
        A text of the client's for this request, None for none: repeated, it is done once.

    Raises
    ------
    ValidationError
    """

    client: str = attrs.field(validator=_check_client)
    base: int = attrs.field(default=0, validator=_check_revision)
    token: str | None = attrs.field(default=None, validator=_check_token)
