"""Skeletons of every size, made and changed in the browser; names of any kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dpk_core.services.storage import read_annotations
from dpk_core.skeleton import Skeleton


def test_a_skeleton_of_one_point(serve, open_page, make_set):
    served = serve(make_set(names=("dot",)))
    hand = open_page(served)
    hand.press("Tab", "Shift+Tab", "k")
    hand.click(10, 10)
    assert hand.active == "dot"
    hand.press("t", "f")
    hand.saved()
    assert served.point(0, "dot")[3]


def test_two_hundred_keypoints(serve, open_page, make_set):
    names = tuple(f"point {i}" for i in range(200))
    served = serve(make_set(names=names))
    hand = open_page(served)
    for i in range(5):
        hand.click(10 + 10 * i, 40)
    hand.press("Shift+Tab", "Shift+Tab")
    hand.page.locator(".keypoint").nth(199).click()
    hand.click(100, 80)
    hand.press("f")
    hand.saved()
    labels = served.stop()
    assert labels.annotated[0].all()
    assert np.isfinite(labels.keypoints[0, :, 0]).sum() == 6


def test_all_keypoints_absent(serve, open_page, make_set):
    served = serve(make_set())
    hand = open_page(served)
    hand.press("x", "x", "x", "x")
    hand.saved()
    hand.page.locator('.keypoint[data-kind="absent"]').nth(3).wait_for()
    labels = served.stop()
    assert labels.annotated[0].all()
    assert np.isnan(labels.keypoints[0]).all()


def test_names_are_text_and_nothing_else(serve, open_page, make_set):
    names = (
        "<img src=x onerror=alert(1)>",
        '"><script>alert(2)</script>',
        "頭 ‮ח",
        "__proto__",
        "constructor",
        "n" * 300,
    )
    served = serve(make_set(names=names))
    hand = open_page(served)
    for i in range(len(names)):
        hand.click(10 + 20 * i, 20)
    hand.press("m")
    hand.page.keyboard.type("<script>alert(3)</script>")
    hand.press("Enter")
    hand.page.get_by_role("tab", name="Skeleton").click()
    hand.page.get_by_role("tab", name="History").click()
    hand.page.locator(".history li").first.wait_for()
    hand.saved()
    assert hand.page.locator("main img, aside img, aside script").count() == 0
    assert [served.point(0, name)[3] for name in names] == [True] * len(names)
    # Swapping, finishing, undoing and clearing work on them as on any other.
    hand.page.locator("#stage").focus()
    hand.press("Shift+Tab", "c", "f", "t", "z", "z", "z")
    hand.saved()
    assert [served.point(0, name)[3] for name in names] == [True] * len(names)
    hand.page.get_by_role("tab", name="Label").click()
    hand.page.locator('.keypoint[data-kind="label"]').nth(len(names) - 1).wait_for()
    assert not hand.problems


def test_makes_a_skeleton_by_clicking_on_the_first_image(serve, open_page, tmp_path: Path):
    import cv2

    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(2):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((60, 80), 90 + i, np.uint8))
    served = serve(folder, "--output", str(tmp_path / "new.h5"))
    served.path = tmp_path / "new.h5"
    hand = open_page(served)
    panel = hand.page.get_by_role("tabpanel", name="Skeleton")
    assert "no skeleton yet" in panel.text_content()
    hand.press("s")
    hand.page.locator("#brief", has_text="make one in the Skeleton tab").wait_for()
    panel.get_by_role("button", name="Add by clicking").click()
    for (x, y), name in zip([(40, 10), (30, 20), (50, 20)], ["nose", "earL", "earR"], strict=True):
        hand.click(x, y)
        hand.page.keyboard.type(name)
        hand.press("Tab")
        focused = "document.activeElement.getAttribute('aria-label')"
        assert hand.page.evaluate(focused).startswith("Parent of keypoint")
    hand.page.get_by_label("Parent of keypoint 3").fill("nose")
    hand.page.get_by_label("Parent of keypoint 3").press("Tab")
    hand.page.get_by_label("Partner of keypoint 3").fill("earL")
    hand.page.get_by_label("Partner of keypoint 3").press("Tab")
    panel.locator(".preview li").first.wait_for()
    panel.get_by_role("button", name="Take this skeleton").click()
    panel.locator(".said", has_text="taken").wait_for()
    hand.saved()
    labels = served.stop()
    assert labels.skeleton == Skeleton(("nose", "earL", "earR"), (-1, 0, 0), (-1, 2, 1))
    assert labels.keypoints[0].ravel() == pytest.approx([40, 10, 30, 20, 50, 20], abs=0.2)


def test_changes_a_skeleton_and_labels_follow_by_name(serve, open_page, make_set):
    served = serve(make_set())
    hand = open_page(served)
    for x in (10, 30, 50, 70):
        hand.click(x, 40)
    hand.saved()
    hand.page.get_by_role("tab", name="Skeleton").click()
    panel = hand.page.get_by_role("tabpanel", name="Skeleton")
    name = panel.get_by_label("Name of keypoint 1")
    name.fill("snout")
    name.press("Tab")
    panel.get_by_role("button", name="Remove tail").click()
    panel.get_by_role("button", name="Move up earR").click()
    panel.get_by_role("button", name="Add", exact=True).click()
    preview = panel.locator(".preview")
    for words in ("renamed: nose -> snout", "removed: tail, labelled in 1 image", "another order"):
        preview.locator("li", has_text=words).wait_for()
    panel.get_by_role("button", name="Take this skeleton").click()
    panel.locator(".said", has_text="taken").wait_for()
    hand.page.get_by_role("tab", name="Label").click()
    hand.page.locator(".keypoint", has_text="snout").wait_for()
    points = served.row(0)["points"]
    assert list(points) == ["snout", "earR", "earL", "keypoint 4"]
    assert points["earR"][0] == pytest.approx(50, abs=0.2)
    hand.page.locator("#stage").focus()
    hand.press("z")
    hand.page.locator(".keypoint", has_text="tail").wait_for()
    hand.saved()
    assert list(served.row(0)["points"]) == ["nose", "earL", "earR", "tail"]


def test_a_preview_that_comes_late_is_left_aside(serve, open_page, make_set):
    hand = open_page(serve(make_set()))
    hand.page.get_by_role("tab", name="Skeleton").click()
    panel = hand.page.get_by_role("tabpanel", name="Skeleton")
    held: list = []
    address = "**/api/skeleton/preview"
    hand.page.route(address, lambda route: route.continue_() if held else held.append(route))
    name = panel.get_by_label("Name of keypoint 1")
    for text in ("snout", "beak"):
        with hand.page.expect_request(address):
            name.fill(text)
            name.press("Tab")
    panel.locator(".preview", has_text="renamed: nose -> beak").wait_for()
    with hand.page.expect_response(address):
        held[0].continue_()
    hand.settled()
    assert "beak" in panel.locator(".preview").text_content()


def test_reads_a_skeleton_from_a_csv_file_and_writes_one(serve, open_page, make_set, tmp_path):
    served = serve(make_set())
    hand = open_page(served)
    hand.click(10, 10)
    hand.saved()
    hand.page.get_by_role("tab", name="Skeleton").click()
    panel = hand.page.get_by_role("tabpanel", name="Skeleton")
    path = tmp_path / "skeleton.csv"
    path.write_text('﻿name,parent,swap\n"nose",,\r\n"a, ""b""",nose,c\nc,nose,"a, ""b"""\n')
    panel.locator("input[type=file]").set_input_files(path)
    panel.get_by_role("button", name="Take this skeleton").click()
    panel.locator(".said", has_text="taken").wait_for()
    assert hand.page.locator(".keypoint", has_text='a, "b"').count() == 1
    with hand.page.expect_download() as download:
        panel.get_by_role("button", name="Save as CSV").click()
    assert Skeleton.from_csv(download.value.path()) == Skeleton.from_csv(path)
    path.write_text("x;y\n1;2\n")
    panel.locator("input[type=file]").set_input_files(path)
    panel.locator(".said", has_text="expected the columns name, parent, swap").wait_for()
    labels = served.stop()
    assert labels.skeleton == Skeleton(("nose", 'a, "b"', "c"), (-1, 0, 0), (-1, 2, 1))
    assert labels.annotated[0, 0]


def test_refuses_circles_twins_and_empty_names(serve, open_page, make_set):
    served = serve(make_set())
    hand = open_page(served)
    hand.page.get_by_role("tab", name="Skeleton").click()
    panel = hand.page.get_by_role("tabpanel", name="Skeleton")
    for label, value, words in [
        ("Parent of keypoint 1", "tail", "hang on itself"),
        ("Parent of keypoint 2", "wing", "no keypoint wing"),
        ("Name of keypoint 2", "nose", "nose already"),
        ("Name of keypoint 2", "", "needs a name"),
        ("Partner of keypoint 1", "nose", "no partner of itself"),
    ]:
        field = panel.get_by_label(label)
        field.fill(value)
        field.press("Tab")
        panel.locator(".said", has_text=words).wait_for()
    assert panel.get_by_role("button", name="Take this skeleton").is_disabled()
    assert read_annotations(served.path).skeleton.names == ("nose", "earL", "earR", "tail")


def start_clicking(hand):
    hand.page.get_by_role("tab", name="Skeleton").click()
    hand.page.get_by_role("button", name="Add by clicking").click()


def test_keypoints_are_labelled_on_the_images_that_they_were_clicked_on(serve, open_page, make_set):
    served = serve(make_set(names=("new_keypoint",)))
    hand = open_page(served)
    start_clicking(hand)
    hand.click(30, 40)
    hand.page.keyboard.type("head")
    hand.page.locator(".thumb").nth(1).click()
    hand.on_image(1)
    hand.click(60, 50)
    hand.page.keyboard.type("tail")
    hand.page.get_by_role("button", name="Take this skeleton").click()
    hand.page.get_by_text("The skeleton is taken.").wait_for()
    hand.saved()
    labels = served.stop()
    assert labels.skeleton.names == ("head", "tail")
    assert labels.keypoints[0, 0] == pytest.approx([30, 40], abs=0.3)
    assert labels.keypoints[1, 1] == pytest.approx([60, 50], abs=0.3)
    assert np.isnan(labels.keypoints[0, 1]).all()
    assert np.isnan(labels.keypoints[1, 0]).all()


def test_a_press_that_ends_the_writing_of_a_name_is_not_lost(serve, open_page, make_set):
    served = serve(make_set())
    hand = open_page(served, viewport={"width": 1280, "height": 640})
    start_clicking(hand)
    for i in range(3):
        hand.click(20 + 10 * i, 20)
    fields = hand.page.locator(".skeleton-row .name")
    fields.nth(0).fill("snout")
    parent = hand.page.get_by_label("Parent of keypoint 3")
    parent.click()
    hand.page.keyboard.press("Control+a")
    hand.page.keyboard.type("snout")
    hand.page.get_by_role("button", name="Remove keypoint 7").click()
    assert fields.count() == 6
    fields.nth(5).fill("tip")
    hand.page.get_by_role("button", name="Take this skeleton").click()
    hand.page.get_by_text("The skeleton is taken.").wait_for()
    hand.saved()
    skeleton = served.stop().skeleton
    assert skeleton.names == ("snout", "earL", "earR", "tail", "keypoint 5", "tip")
    assert skeleton.parent[2] == 0
