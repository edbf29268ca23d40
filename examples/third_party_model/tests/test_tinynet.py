"""The whole test a model needs."""

from dpk_core.testing import check_model


def test_tinynet_keeps_the_contract():
    check_model("TinyNet", filters=4)
