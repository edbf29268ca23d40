"""The whole test a format needs."""

from dpk_core.testing import check_format


def test_pointlist_keeps_the_contract():
    check_format("pointlist")
