"""Merging in the page: what would become of it, the labels that differ, and the new set."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
import pytest

from dpk_core.services.storage import read_annotations, write_annotations
from dpk_core.testing import dot_annotations


@pytest.fixture
def two_sets(tmp_path: Path) -> Path:
    """Anna's set; Ben's has two images of his own, and moved one label by (3, 4)."""
    annotations = dot_annotations(8, size=(32, 32))
    write_annotations(tmp_path / "anna.h5", annotations)
    images, keypoints = np.asarray(annotations.images).copy(), annotations.keypoints.copy()
    images[6:] = 255 - images[6:]
    keypoints[3, 1] += (3, 4)
    ben = attrs.evolve(annotations, images=images, keypoints=keypoints)
    write_annotations(tmp_path / "ben.h5", ben)
    return tmp_path / "anna.h5"


def test_two_sets_become_a_third_one(serve, open_page, two_sets):
    hand = open_page(serve(two_sets))
    hand.page.locator("#tab-merge").click()
    write = hand.page.get_by_role("button", name="Write anna+ben.h5")
    write.wait_for()
    said = hand.page.locator(".merge-panel .preview").text_content()
    assert "anna+ben.h5: 10 images, of which 2 are in the other set alone." in said
    conflict = hand.page.locator(".conflicts li")
    names = hand.page.evaluate("dpk.skeleton.names")
    assert conflict.locator(".text").text_content() == f"{names[1]}: 5.0 px; this set's is kept"
    conflict.get_by_role("button", name="Look").click()
    hand.on_image(3)
    assert hand.active == names[1]
    hand.page.get_by_label("Where labels differ, keep").select_option("second")
    hand.page.locator(".conflicts .text", has_text="the other's is kept").wait_for()
    write.click()
    done = hand.page.locator('.merge-panel .job[data-state="done"]')
    done.wait_for()
    assert "dpk annotate anna+ben.h5" in done.text_content()
    merged, ben = (read_annotations(two_sets.with_name(n)) for n in ("anna+ben.h5", "ben.h5"))
    assert len(merged) == 10
    np.testing.assert_array_equal(merged.keypoints[3], ben.keypoints[3])


def test_a_set_alone_says_so(serve, open_page, make_set):
    hand = open_page(serve(make_set()))
    hand.page.locator("#tab-merge").click()
    hand.page.locator(".merge-panel .problem", has_text="There is no other set").wait_for()
    assert hand.page.locator(".merge-panel .primary").is_hidden()
