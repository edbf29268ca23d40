"""Settings by name: a slip of the pen is told with what there is."""

from __future__ import annotations

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
