"""Settings by name: a slip of the pen is told with what there is."""

from __future__ import annotations

from functools import partial
from typing import Optional, Union

import numpy as np
import pytest

from dpk_core.errors import ValidationError
from dpk_core.services.settings import check_settings, make_with


class Thing:
    def __init__(self, needed, max_gap=60, sigmas=1.0):
        self.sigmas = float(sigmas)
        if max_gap < 0:
            raise ValidationError("max_gap: expected at least 0")


def test_a_setting_that_there_is_not():
    with pytest.raises(ValidationError) as caught:
        make_with("thing", Thing, {"needed": 1, "maxgap": 3})
    assert str(caught.value) == (
        "thing has no setting 'maxgap'; it has needed, max_gap, sigmas; did you mean 'max_gap'?"
    )
    with pytest.raises(ValidationError, match=r"'x'; it has none$"):
        make_with("bare", lambda: 1, {"x": 3})


def test_values_that_do_not_fit_and_one_that_is_lacking():
    with pytest.raises(ValidationError, match=r"^thing: could not convert .*sigmas='wide'$"):
        make_with("thing", Thing, {"needed": 1, "sigmas": "wide"})
    with pytest.raises(ValidationError, match=r"^max_gap: expected at least 0$"):
        make_with("thing", Thing, {"needed": 1, "max_gap": -1})
    with pytest.raises(ValidationError, match=r"thing: .*'needed'; found no settings$"):
        make_with("thing", Thing, {})


def test_what_takes_anything_or_does_not_say():
    assert make_with("open", lambda **options: options, {"x": 3}) == {"x": 3}
    check_settings("built in", print, {"sep": ""})
    assert make_with("thing", Thing, {"needed": 1, "sigmas": "2"}).sigmas == 2


def said(count: int | None = None, gap: int = 3, part: float = 0.5, far: float | None = None,
         mend: bool = True, match: str = "pose", of: float | list[float] = 1.0):  # fmt: skip
    return {name: value for name, value in locals().items() if value is not None}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"gap": 1.5}, "gap: expected a whole number, found 1.5"),
        ({"gap": True}, "gap: expected a whole number, found True"),
        ({"gap": None}, "gap: expected a whole number, found None"),
        ({"gap": float("inf")}, "gap: expected a whole number, found inf"),
        ({"gap": "sixty"}, "gap: expected a whole number, found 'sixty'"),
        ({"count": 2.5}, "count: expected a whole number or null, found 2.5"),
        ({"part": float("nan")}, "part: expected a number, found nan"),
        ({"part": False}, "part: expected a number, found False"),
        ({"far": "away"}, "far: expected a number or null, found 'away'"),
        ({"mend": "no"}, "mend: expected true or false, found 'no'"),
        ({"mend": 1}, "mend: expected true or false, found 1"),
        ({"match": 3}, "match: expected a text, found 3"),
    ],
)
def test_values_of_another_kind_than_the_annotation(settings, expected):
    with pytest.raises(ValidationError) as caught:
        make_with("said", said, settings)
    assert str(caught.value) == f"said: {expected}"


def test_values_that_the_annotation_admits():
    settings = {"count": 2.0, "gap": np.int64(4), "part": 1, "far": float("inf"), "match": "x"}
    assert make_with("said", partial(said, mend=np.True_), settings).items() >= settings.items()
    assert make_with("said", said, {"of": [1, 2], "count": None})["of"] == [1, 2]


def test_annotations_that_are_types_or_unknown():
    def typed(old, both, other):
        return old, both, other

    typed.__annotations__ = {"old": Optional[int], "both": Union[int, list], "other": list}  # noqa: UP045, UP007
    assert make_with("typed", typed, {"old": None, "both": "x", "other": 3}) == (None, "x", 3)
    with pytest.raises(ValidationError, match=r"old: expected a whole number or null, found 1\.5"):
        make_with("typed", typed, {"old": 1.5, "both": 1, "other": 1})


def test_numbers_that_are_too_large_for_what_takes_them():
    def lasting(n):
        return bytearray(n)

    with pytest.raises(ValidationError, match=r"^lasting: .* found n=1000"):
        make_with("lasting", lasting, {"n": 10**30})
