"""Everything by keys alone, in DeepPoseKit's way and in one's own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest


def test_labels_with_no_mouse_at_all(serve, open_page, make_set):
    served = serve(make_set(size=(101, 101)))
    hand = open_page(served)
    assert hand.focused() == "stage"
    hand.press("Enter")
    assert hand.active == "earL"
    hand.press("w", "a", "Space", "d", "Space", "s", "Alt+d", "Shift+w")
    hand.saved()
    assert served.point(0, "nose") == [50, 50, 2, True]
    assert served.point(0, "earL") == [59.1, 40, 2, True]
    hand.press("Tab", "g", "x", "f", "u")
    hand.on_image(1).saved()
    state = served.row(0)
    assert state["finished"]
    assert state["points"]["tail"] == [None, None, 0, True]


def test_a_held_key_is_one_edit(serve, open_page, make_set):
    served = serve(make_set(size=(101, 101)))
    hand = open_page(served)
    hand.press("Enter", "Shift+Tab")
    # In one go: between keys pressed from here a key may seem to rest, however short that is.
    hand.page.evaluate(
        "() => { const tell = (type, repeat) => document.activeElement.dispatchEvent(new"
        " KeyboardEvent(type, { key: 'd', repeat, bubbles: true, cancelable: true }));"
        " for (let i = 0; i < 7; i += 1) tell('keydown', i > 0); tell('keyup', false); }"
    )
    hand.saved()
    assert served.point(0, "nose")[:2] == [57, 50]
    assert served.row(0)["revision"] == 2


@pytest.mark.parametrize(
    ("keys", "row"),
    [
        (["l", "l", "j"], 1),
        (["e", "e", "q"], 1),
        (["j"], 29),
        (["."], 10),
        ([">", "<", ","], 20),
        (["ArrowRight"], 1),
    ],
)
def test_images_by_key_go_round_as_in_deepposekit(shared_page, keys, row):
    hand = shared_page
    hand.press("/")
    hand.page.keyboard.type("0")
    hand.press("Enter")
    hand.on_image(0)
    hand.press(*keys)
    hand.on_image(row)


@pytest.fixture
def shared_page(serve, open_page, make_set):
    return open_page(serve(make_set(n=30)))


def test_the_focus_goes_all_round_and_never_gets_lost(serve, open_page, make_set):
    hand = open_page(serve(make_set()))
    seen = []
    for _ in range(4):
        hand.press("F6")
        seen.append(hand.focused())
    assert seen == ["tab-label", "strip", "previous", "stage"]
    hand.press("F6", "Tab")
    assert hand.focused() != "stage", "outside of the image Tab moves the focus"
    assert hand.page.evaluate("document.activeElement.matches(':focus-visible')")
    hand.press("Escape")
    assert hand.focused() == "stage"
    assert hand.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_letters_are_letters_where_text_is_written(serve, open_page, make_set):
    served = serve(make_set())
    hand = open_page(served)
    hand.press("m")
    hand.page.keyboard.type("frwasdx?")
    hand.press("Escape")
    hand.saved()
    assert served.row(0)["note"] == "frwasdx?"
    assert not served.row(0)["finished"]
    assert hand.row == 0


def test_keys_are_shown_chosen_kept_and_given_on(serve, open_page, make_set, tmp_path: Path):
    served = serve(make_set())
    hand = open_page(served)
    hand.press("?")
    dialog = hand.page.locator("dialog.help")
    dialog.locator('[data-action="finished"]').click()
    hand.press("k")
    assert dialog.locator('[data-action="finished"]').text_content() == "K"
    assert dialog.locator('[data-action="next-keypoint"]').text_content() == "Tab", "no key twice"
    with hand.page.expect_download() as download:
        dialog.get_by_role("button", name="Save as a file").click()
    kept = json.loads(Path(download.value.path()).read_text())
    assert kept["keys"]["finished"] == ["k"]
    hand.press("Escape")
    hand.press("f")
    hand.press("k")
    hand.saved()
    assert served.row(0)["finished"]
    hand.page.reload()
    hand.on_image(0)
    hand.press("k")
    hand.saved()
    assert not served.row(0)["finished"]
    hand.press("?")
    dialog.get_by_role("button", name="All as at first").click()
    assert dialog.locator('[data-action="finished"]').text_content() == "F"
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(kept))
    dialog.locator("input[type=file]").set_input_files(path)
    hand.page.locator('[data-action="finished"]', has_text="K").wait_for()
    path.write_text("{}")
    dialog.locator("input[type=file]").set_input_files(path)
    hand.page.locator(".said", has_text="could not be taken").wait_for()


def _open_and_hold(open_page, served):
    """A tab in which labels of all images but the first wait, as in a long tunnel, to be let go."""
    hand = open_page(served, wait=False)
    held = []

    def wait(route):
        if held is not None:
            held.append(route)
        else:
            route.continue_()

    def let_go():
        nonlocal held
        waiting, held = held, None
        for route in waiting:
            route.continue_()

    hand.page.route(re.compile(r"/api/rows/[1-9]\d*$"), wait)
    return hand.open(), let_go


def test_keys_pressed_before_the_labels_are_here_are_done_in_order(serve, open_page, make_set):
    served = serve(make_set(n=30))
    hand, let_go = _open_and_hold(open_page, served)
    hand.press(">", "b", "f", "x", ">", "d", "b", ">")
    assert hand.page.evaluate("dpk.row") == 10
    let_go()
    hand.on_image(0).saved()
    assert [served.row(row)["flag"] for row in (10, 20)] == [True, True]
    assert [served.row(row)["finished"] for row in (10, 20)] == [True, False]
    assert served.point(10, "nose") == [None, None, 0, True]
    assert served.point(20, "nose")[3]


def test_keys_meant_for_an_image_that_was_left_are_told_of(serve, open_page, make_set):
    served = serve(make_set(n=30))
    hand, let_go = _open_and_hold(open_page, served)
    hand.press(">", "b", "f")
    hand.page.locator('.thumb[data-row="9"]').click()
    hand.page.locator("#brief", has_text="2 things you did there are not done").wait_for()
    hand.press("b")
    let_go()
    hand.on_image(9).saved()
    assert [served.row(row)["flag"] for row in (9, 10)] == [True, False]


def test_keys_that_were_chosen_before_hold_over_those_that_came_later(serve, open_page, make_set):
    found = open_page(serve(make_set())).page.evaluate(
        """async () => {
          const chosen = { help: ['x'], gone: ['y'], swap: 'bad' };
          localStorage.setItem('dpk-keys', JSON.stringify(chosen));
          const { Keys } = await import('./static/keys.js');
          const keys = new Keys();
          const does = (key, place) => keys.action(new KeyboardEvent('keydown', { key }), place);
          return [does('x'), does('x', 'video'), does('?'), does('t'), does('a', 'video')];
        }"""
    )
    assert found == ["help", "help", None, "swap", "film-add"]


def test_what_is_pressed_ahead_is_done_whole_before_the_next(serve, open_page, make_set):
    """A copy asks for another image first, and a key that moves rests before it is an edit."""
    keypoints = np.full((30, 4, 2), np.nan)
    keypoints[9] = [[10, 20], [30, 40], [50, 60], [70, 80]]
    served = serve(make_set(n=30, keypoints=keypoints))
    hand, let_go = _open_and_hold(open_page, served)
    hand.press(">", "p", "f", ">", "d", "x", ">")
    let_go()
    hand.on_image(0).saved()
    assert [served.point(10, name)[0] for name in ("nose", "earL", "earR", "tail")] == [
        10, 30, 50, 70,
    ]  # fmt: skip
    assert served.row(10)["finished"]
    assert served.point(20, "nose") == [None, None, 0, True]


def test_a_note_is_text_also_before_the_labels_are_here(serve, open_page, make_set):
    served = serve(make_set(n=30))
    hand, let_go = _open_and_hold(open_page, served)
    hand.press(">", "b", "m")
    hand.page.locator("#note:focus").wait_for()
    hand.page.keyboard.type("blurry")
    hand.press("Enter", ">")
    let_go()
    hand.on_image(20).saved()
    row = served.row(10)
    assert (row["flag"], row["note"], row["finished"]) == (True, "blurry", False)
    assert not any(point[3] for point in row["points"].values())
