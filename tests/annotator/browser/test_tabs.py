"""The tabs of the panels: one row on every screen, each within reach of mouse, keys and ears."""

from __future__ import annotations

import pytest

NAMES = ["Label", "Partner", "Videos", "Display", "Skeleton", "Merge", "History"]


@pytest.mark.parametrize("size", [(1280, 720), (3840, 2160)], ids="{0[0]}".format)
@pytest.mark.parametrize("letters", ["", "24px"], ids=["usual", "large"])
def test_all_tabs_are_in_one_row_and_each_can_be_seen(serve, open_page, make_set, size, letters):
    width, height = size
    hand = open_page(serve(make_set()), viewport={"width": width, "height": height})
    hand.page.evaluate("size => { document.documentElement.style.fontSize = size; }", letters)
    tabs = hand.page.get_by_role("tab").all()
    row = hand.page.locator("#tabs").bounding_box()
    assert [hand.page.get_by_role("tab", name=name).count() for name in NAMES] == [1] * len(NAMES)
    assert len({tab.bounding_box()["y"] for tab in tabs}) == 1
    for tab in tabs:
        tab.click()
        box = tab.bounding_box()
        assert row["x"] <= box["x"]
        assert box["x"] + box["width"] <= row["x"] + row["width"] + 1
        assert tab.evaluate("tab => tab.scrollWidth <= tab.clientWidth"), "no word is cut"


def test_keys_lead_from_tab_to_tab(serve, open_page, make_set):
    hand = open_page(serve(make_set()))
    hand.page.locator("#tab-label").focus()
    for key, name in (
        ("ArrowRight", "partner"), ("End", "history"), ("ArrowRight", "label"),
        ("ArrowLeft", "history"), ("Home", "label"),
    ):  # fmt: skip
        hand.press(key)
        assert hand.focused() == f"tab-{name}"
        assert hand.page.locator(f"#tab-{name}").get_attribute("aria-selected") == "true"
        hand.page.locator(f"#panel-{name}").wait_for()
    assert hand.row == 0, "arrows stay with the tabs"
