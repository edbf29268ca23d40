"""Labelling a small set from the first click to the file."""

from __future__ import annotations

import numpy as np
import pytest


def test_labels_a_set_from_the_first_click_to_the_file(serve, open_page, make_set):
    served = serve(make_set(n=3))
    hand = open_page(served)
    assert hand.row == 0
    assert hand.active == "nose"
    for x, y in [(20, 30), (40, 10), (60, 12), (100, 80)]:
        hand.click(x, y)
    hand.saved()
    assert served.point(0, "earR")[:2] == pytest.approx([60, 12], abs=0.2)
    hand.drag((100, 80), (90.5, 70.25))
    hand.press("f")
    hand.press("l")
    hand.on_image(1)
    hand.click(5, 6)
    hand.press("v")
    assert hand.active == "earL", "a click goes on to the next keypoint"
    hand.press("Shift+Tab", "v", "Tab", "x", "b")
    hand.page.locator("#note").fill("moulting")
    hand.page.locator("#note").press("Enter")
    hand.saved()
    labels = served.stop()
    assert labels.keypoints[0, 3] == pytest.approx([90.5, 70.25], abs=0.2)
    assert labels.annotated[0].all()
    assert labels.visibility[1].tolist() == [1, 0, 0, 0]
    assert labels.annotated[1].tolist() == [True, True, False, False]
    assert np.isnan(labels.keypoints[1, 1]).all()


def test_marks_of_the_image_are_kept(serve, open_page, make_set):
    served = serve(make_set())
    hand = open_page(served)
    hand.press("b", "m")
    hand.page.keyboard.type("two animals, <b>here</b>")
    hand.press("Enter")
    assert hand.focused() == "stage"
    hand.press("f")
    hand.saved()
    state = served.row(0)
    assert (state["flag"], state["note"], state["finished"]) == (
        True,
        "two animals, <b>here</b>",
        True,
    )
    hand.press("f", "b")
    hand.saved()
    assert (served.row(0)["flag"], served.row(0)["finished"]) == (False, False)


def test_undo_and_redo_go_through_all_steps(serve, open_page, make_set):
    served = serve(make_set())
    hand = open_page(served)
    hand.click(10, 50)
    hand.press(*"dddddddddddftr")
    hand.saved()
    after = served.row(0)["points"]
    for _ in range(15):
        hand.press("z")
    hand.saved()
    assert not any(point[3] for point in served.row(0)["points"].values())
    hand.page.locator("#undo:disabled").wait_for()
    for _ in range(15):
        hand.press("Shift+z")
    hand.saved()
    assert served.row(0)["points"] == after
    hand.press("z")
    hand.saved()
    assert served.row(0)["finished"]


def test_undo_shows_the_image_it_is_about(serve, open_page, make_set):
    served = serve(make_set())
    hand = open_page(served)
    hand.click(10, 10)
    hand.press("l")
    hand.on_image(1)
    hand.press("z")
    hand.on_image(0).saved()
    assert served.point(0, "nose")[3] is False


def test_swaps_copies_clears_and_resets(serve, open_page, make_set):
    served = serve(make_set())
    hand = open_page(served)
    for x in (10, 30, 50, 70):
        hand.click(x, 40)
    hand.press("t")
    hand.saved()
    assert served.point(0, "earL")[0] == pytest.approx(50, abs=0.2)
    hand.press("l")
    hand.on_image(1)
    hand.click(5, 5)
    hand.press("p")
    hand.saved()
    points = served.row(1)["points"]
    assert points["nose"][0] == pytest.approx(5, abs=0.2), "what is labelled stays"
    assert points["tail"] == served.point(0, "tail")
    hand.press("Shift+Tab", "c")
    hand.saved()
    assert served.point(1, "nose") == [None, None, 0, False]
    hand.press("r")
    hand.saved()
    assert not any(point[3] for point in served.row(1)["points"].values())


def test_filters_and_numbers_lead_to_images(serve, open_page, make_set):
    served = serve(make_set(n=30))
    hand = open_page(served)
    hand.press("l", "b", "l", "l", "b")
    hand.on_image(3).saved()
    hand.page.locator("#filter").select_option("flagged")
    hand.page.locator("#total", has_text="2 images").wait_for()
    hand.on_image(3)
    hand.page.locator('.thumb[aria-setsize="2"]').nth(1).wait_for()
    hand.page.locator("#stage").focus()
    hand.press("l")
    hand.on_image(1)
    hand.page.locator("#filter").select_option("all")
    hand.press("Escape", "/")
    hand.page.keyboard.type("17")
    hand.press("Enter")
    hand.on_image(17)
    hand.press(">")
    hand.on_image(27)
    hand.press("<", "<")
    hand.on_image(7)
    hand.press("/")
    hand.page.keyboard.type("30")
    hand.press("Enter")
    hand.page.locator("#brief", has_text="no image 30").wait_for()
    hand.page.locator('.thumb[data-row="5"]').click()
    hand.on_image(5)


def test_goes_back_to_an_earlier_moment(serve, open_page, make_set):
    served = serve(make_set())
    hand = open_page(served)
    hand.click(10, 10)
    hand.click(20, 20)
    hand.press("r")
    hand.saved()
    hand.page.get_by_role("tab", name="History").click()
    entry = hand.page.locator(".history li", has_text="earL at")
    entry.get_by_role("button", name="Go back here").click()
    hand.page.get_by_role("button", name="Go back", exact=True).click()
    hand.page.locator(".history li", has_text="set").first.wait_for()
    assert served.point(0, "nose")[3]
    assert served.point(0, "earL")[3]
    hand.page.locator("#stage").focus()
    hand.press("z")
    hand.saved()
    assert not served.point(0, "nose")[3]


def test_confirms_guesses_one_and_all(serve, open_page, make_set):
    from dpk_annotator.store import Store

    path = make_set()
    with Store.open(path) as store:
        keypoints = np.arange(8, dtype=np.float32).reshape(1, 4, 2) * 10 + 5
        store.put_guesses([0], keypoints, np.full((1, 4), 0.75), "a model")
    served = serve(path)
    hand = open_page(served)
    hand.page.locator(".keypoint", has_text="noseguess 75").wait_for()
    hand.press("Enter")
    hand.saved()
    assert served.point(0, "nose") == [5.0, 15.0, 2, True]
    assert not served.point(0, "earL")[3]
    hand.press("w", "y")
    hand.saved()
    points = served.row(0)["points"]
    assert points["earL"][:2] == [25.0, 34.0], "moved by a key from where it was guessed"
    assert points["tail"][:2] == [65.0, 75.0]
    hand.page.locator("#filter").select_option("unsure")
    assert hand.page.locator("#below").is_visible()
