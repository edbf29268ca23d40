"""No edit is lost: slow and broken lines, reloads, other tabs, files that cannot be written."""

from __future__ import annotations

import random
import re
import socket

import numpy as np
import pytest

from dpk_annotator.store import Store


def test_a_slow_line_holds_nobody_up(serve, open_page, make_set):
    served = serve(make_set())
    hand = open_page(served)
    held: list = []
    hand.page.route("**/api/edit", lambda route: held.append(route))
    for x in (10, 20, 30, 40):
        hand.click(x, 40)
    hand.page.locator(".progress", has_text="4 of 4").wait_for()
    assert hand.page.evaluate("dpk.queue.waiting.length") > 0, "shown before it is saved"
    assert hand.page.locator("#save").get_attribute("data-status") == "saving"
    hand.page.unroute("**/api/edit")  # which lets go what is held
    hand.saved()
    assert [served.point(0, n)[0] for n in ("nose", "earL", "earR", "tail")] == pytest.approx(
        [10, 20, 30, 40], abs=0.2
    )


def test_edits_wait_while_the_line_is_cut_and_keep_their_order(serve, open_page, make_set):
    served = serve(make_set())
    hand = open_page(served)
    hand.page.route("**/api/edit", lambda route: route.abort())
    hand.click(10, 10)
    hand.press("Shift+Tab", "d", "d", "b")
    status = hand.page.locator('#save[data-status="offline"]')
    status.wait_for()
    hand.page.locator("#save-text", has_text="4 edits kept").wait_for()
    assert not served.point(0, "nose")[3]
    hand.page.unroute("**/api/edit")
    hand.saved()
    assert served.point(0, "nose")[0] == pytest.approx(12, abs=0.2)
    assert served.row(0)["flag"]


def test_an_answer_that_is_lost_makes_no_second_edit(serve, open_page, make_set):
    served = serve(make_set())
    hand = open_page(served)
    lost = []

    def lose_first(route):
        if lost:
            route.continue_()
            return
        lost.append(route.fetch())  # the server has it; the page does not hear of it
        route.abort()

    hand.page.route("**/api/edit", lose_first)
    hand.click(10, 10)
    hand.saved()
    assert lost
    assert served.row(0)["revision"] == 1


def test_a_reload_in_mid_edit_loses_nothing(serve, open_page, make_set):
    served = serve(make_set())
    hand = open_page(served)
    hand.page.route("**/api/edit", lambda route: route.abort())
    hand.click(10, 10)
    hand.click(20, 20)
    hand.press("l")
    hand.on_image(1)
    hand.click(30, 30)
    hand.page.locator('#save[data-status="offline"]').wait_for()
    hand.page.unroute("**/api/edit")
    hand.page.reload()
    hand.on_image(1).saved()
    assert served.point(0, "earL")[0] == pytest.approx(20, abs=0.2)
    assert served.point(1, "nose")[0] == pytest.approx(30, abs=0.2)


def test_a_new_tab_sends_what_a_closed_one_left(serve, open_page, make_set, browser):
    served = serve(make_set())
    context = browser.new_context()
    first = open_page(served, context)
    second = open_page(served, context)
    second.page.route("**/api/edit", lambda route: route.abort())
    second.click(10, 10)
    second.page.locator('#save[data-status="offline"]').wait_for()
    second.page.close()
    third = open_page(served, context)
    third.saved()
    assert served.point(0, "nose")[0] == pytest.approx(10, abs=0.2)
    assert not first.problems
    context.close()


def _free_port() -> str:
    """A port that nobody gets who asks for any: neither our servers nor the system's calls."""
    while True:
        port = random.SystemRandom().randrange(20_000, 30_000)
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
        return str(port)


def test_the_server_may_go_and_come_back(serve, open_page, make_set):
    port = _free_port()
    served = serve(make_set(), "--port", port)
    hand = open_page(served)
    hand.press("b")
    hand.saved()
    served.kill()
    hand.click(10, 10)
    hand.page.locator('#save[data-status="offline"]').wait_for()
    again = serve(served.path, "--port", port)
    # It has another token now: the page says what to do, and the new one has the edit.
    hand.page.locator(".notice", has_text="Open the one that dpk annotate shows").wait_for()
    hand.page.goto(again.url)
    hand.on_image(0).saved()
    assert again.point(0, "nose")[0] == pytest.approx(10, abs=0.2)


def test_a_tab_from_before_a_restart_says_so_and_leaves_its_undo_to_the_next(
    serve, open_page, make_set, browser
):
    port = _free_port()
    served = serve(make_set(), "--port", port)
    context = browser.new_context()
    old = open_page(served, context)
    old.click(10, 10)
    old.click(20, 20)
    old.saved()
    name = old.page.evaluate("dpk.client")
    served.kill()
    old.page.locator('#save[data-status="offline"]').wait_for()
    assert old.page.locator("#save-text").inner_text() == "Offline", "nothing waits"
    again = serve(served.path, "--port", port)
    new = open_page(again, context)
    assert new.page.evaluate("dpk.client") == name != old.page.evaluate("dpk.client")
    old.page.locator(".notice", has_text="close this tab.").wait_for()
    new.press("z")
    new.saved()
    assert not again.point(0, "earL")[3]
    assert again.point(0, "nose")[3]
    context.close()


def test_two_tabs_see_each_other(serve, open_page, make_set, browser):
    served = serve(make_set())
    context = browser.new_context()
    one, other = open_page(served, context), open_page(served, context)
    assert one.page.evaluate("dpk.client") != other.page.evaluate("dpk.client")
    one.click(10, 10)
    other.page.locator('.keypoint[data-kind="label"]', has_text="nose").wait_for()
    other.press("Tab")
    other.click(50, 50)
    one.page.locator('.keypoint[data-kind="label"]', has_text="earL").wait_for()
    assert served.point(0, "nose")[0] == pytest.approx(10, abs=0.2)
    assert served.point(0, "earL")[0] == pytest.approx(50, abs=0.2)
    context.close()


@pytest.mark.parametrize("mine", [True, False], ids=["mine", "theirs"])
def test_two_tabs_in_conflict_are_shown_side_by_side(serve, open_page, make_set, mine):
    served = serve(make_set())
    one, other = open_page(served), open_page(served)
    # The second hears nothing of the first, as when the line is slow.
    other.page.evaluate("dpk.rows.refresh = async () => {}")
    one.click(10, 10)
    one.saved()
    other.page.route("**/api/events*", lambda route: route.abort())
    other.click(80, 60)
    dialog = other.page.locator("dialog.conflict")
    dialog.wait_for()
    assert "nose" in dialog.text_content()
    assert dialog.locator("canvas").count() == 2
    assert dialog.locator("td").all_text_contents()[1].startswith(("10.", "9.9"))
    other.press("Escape")
    assert dialog.is_visible(), "it has to be decided"
    dialog.get_by_role("button", name="Keep mine" if mine else "Keep theirs").click()
    other.saved()
    assert served.point(0, "nose")[0] == pytest.approx(80 if mine else 10, abs=0.2)
    place = re.compile(r"nose(80\.|79\.9)" if mine else r"nose(10\.|9\.9)")
    other.page.locator(".keypoint", has_text=place).wait_for()


def test_what_cannot_be_written_is_said_in_words_and_kept(serve, open_page, make_set):
    served = serve(make_set())
    hand = open_page(served)
    full = {"status": 507, "json": {"error": "the disk is full; make room"}}
    hand.page.route("**/api/edit", lambda route: route.fulfill(**full))
    hand.click(10, 10)
    hand.page.locator(".notice", has_text="the disk is full; make room").wait_for()
    hand.click(20, 20)
    hand.page.locator("#save-text", has_text="2 edits not saved").wait_for()
    hand.page.unroute("**/api/edit")
    hand.saved()
    assert served.point(0, "earL")[0] == pytest.approx(20, abs=0.2)
    hand.page.locator(".notice").wait_for(state="detached")


def test_an_edit_that_can_never_be_done_may_be_left_out(serve, open_page, make_set):
    served = serve(make_set())
    hand = open_page(served)
    refused = {"status": 400, "json": {"error": "this cannot be"}}
    hand.page.route("**/api/edit", lambda route: route.fulfill(**refused))
    hand.click(10, 10)
    hand.page.locator(".notice", has_text="this cannot be").wait_for()
    hand.page.unroute("**/api/edit")
    hand.page.get_by_role("button", name="Leave this edit out").click()
    hand.saved()
    hand.page.locator(".progress", has_text="0 of 4").wait_for()
    hand.click(20, 20)
    hand.saved()
    assert not served.point(0, "nose")[3]


def test_a_set_that_can_only_be_looked_at_takes_no_edits(serve, open_page, make_set):
    served = serve(make_set(), "--read-only")
    hand = open_page(served)
    assert "only be looked at" in hand.page.locator("#notices").text_content()
    hand.click(10, 10)
    hand.press("f", "w", "r")
    assert hand.page.evaluate("dpk.queue.waiting.length") == 0
    assert hand.page.locator(".progress").text_content() == "0 of 4"


@pytest.mark.parametrize("mine", [True, False], ids=["all the same", "leave it"])
def test_undoing_what_somebody_else_has_changed_asks_first(serve, open_page, make_set, mine):
    served = serve(make_set())
    one, other = open_page(served), open_page(served)
    one.click(10, 10)
    other.page.locator(".progress", has_text="1 of 4").wait_for()
    other.press("Shift+Tab", "Tab", "Shift+d")
    other.saved()
    there = served.point(0, "nose")
    one.page.locator(".keypoint", has_text=f"nose{there[0]:.1f}").wait_for()
    one.press("z")
    dialog = one.page.locator("dialog.conflict")
    dialog.get_by_role("button", name="all the same" if mine else "Keep theirs").click()
    one.saved()
    assert served.point(0, "nose")[3] is not mine
    assert (served.point(0, "nose") == there) is not mine
    progress = "0 of 4" if mine else "1 of 4"
    one.page.locator(".progress", has_text=progress).wait_for()


def test_what_is_wrong_with_the_file_is_told_and_taken_back_without_a_reload(
    serve, open_page, make_set
):
    path = make_set()
    served = serve(path)
    hand = open_page(served)
    away = path.with_name("elsewhere.h5")
    path.rename(away)
    hand.click(10, 10)
    hand.saved()
    warning = hand.page.locator("#notices .notice", has_text="is gone; put it back").first
    warning.wait_for()
    away.rename(path)
    warning.wait_for(state="detached")
    assert served.stop().annotated[0, 0]


def test_a_guess_is_confirmed_as_it_was_seen(serve, open_page, make_set):
    path = make_set(n=1)
    with Store.open(path) as store:
        store.put_guesses([0], np.full((1, 4, 2), 20.0), np.ones((1, 4)), "net")
    served = serve(path)
    hand = open_page(served)
    for name in ("edit", "confirm"):
        hand.page.route(f"**/api/{name}", lambda route: route.abort())
    hand.press("y")
    hand.page.locator('#save[data-status="offline"]').wait_for()
    with Store.open(path) as store:
        store.put_guesses([0], np.full((1, 4, 2), 70.0), np.ones((1, 4)), "another net")
    for name in ("edit", "confirm"):
        hand.page.unroute(f"**/api/{name}")
    hand.saved()
    assert served.point(0, "tail") == [20, 20, 2, True]
