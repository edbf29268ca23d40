"""The partner's panel: runs and their curves, guesses, suggestions, and what the server says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import attrs
import numpy as np
import pytest

from dpk_core.poses import Poses
from dpk_core.services.storage import read_annotations, write_annotations, write_poses
from dpk_core.testing import dot_annotations


@pytest.fixture
def half_labelled(tmp_path: Path) -> Path:
    """Sixteen images with dots, of which twelve are labelled."""
    annotations = dot_annotations(16, size=(32, 32))
    keypoints = annotations.keypoints.copy()
    keypoints[12:] = np.nan
    there = np.isfinite(keypoints[..., 0])
    path = tmp_path / "labels.h5"
    changed = attrs.evolve(
        annotations, keypoints=keypoints, annotated=there, visibility=there.astype(np.uint8) * 2
    )
    write_annotations(path, changed)
    return path


@pytest.fixture
def past(half_labelled: Path) -> Path:
    """A training and a prediction that ended while no server ran."""
    jobs = half_labelled.with_name("labels.h5.jobs")
    training = _job(jobs, 1, "train", {"model": "LEAP"}, "epoch 1\nepoch 2\n<b>done</b>\n")
    (training / "model.keras").write_bytes(b"weights")
    (training / "model.run").mkdir()
    (training / "model.run" / "log.csv").write_text(
        "epoch,loss,val_loss,val_error_px\n1,900,1000,8.5\n2,90,120,\n3,9.25,12,2.5\n"
    )
    names = read_annotations(half_labelled).skeleton
    scores = np.full((4, len(names)), 0.9, np.float32)
    scores[2, 0] = 0.25
    keypoints = np.full((4, len(names), 2), 10.0, np.float32)
    prediction = _job(jobs, 2, "predict", {"model": "job 1"}, "")
    write_poses(
        prediction / "guesses.poses.h5", Poses(keypoints, scores, names, frames=range(12, 16))
    )
    _job(jobs, 3, "train", {"model": "LEAP"}, "no memory left\n", exit_code=1)
    return half_labelled


def _job(jobs: Path, number: int, kind: str, settings: dict, log: str, exit_code: int = 0) -> Path:
    folder = jobs / str(number)
    folder.mkdir(parents=True)
    facts = {"number": number, "kind": kind, "settings": settings, "exit_code": exit_code}
    facts |= {"began": 1.7e9 + number, "ended": 1.7e9 + 75 + number}
    (folder / "job.json").write_text(json.dumps(facts))
    (folder / "log.txt").write_text(log)
    return folder


@pytest.fixture
def panel(serve, open_page):
    """Opens the page on a set, with the partner's panel in front."""

    def show(path: Path):
        hand = open_page(serve(path))
        hand.page.locator("#tab-partner").click()
        hand.page.locator(".partner-panel option[value=LEAP]").wait_for(state="attached")
        return hand

    return show


def _run(hand, number: int):
    return hand.page.locator(f'.job[data-job="{number}"]')


def test_runs_of_the_past_are_there_with_their_curve_and_log(panel, past):
    hand = panel(past)
    training = _run(hand, 1)
    training.locator("summary").first.click()
    assert training.locator(".state").text_content().startswith("done")
    training.locator(".plot").nth(1).wait_for()
    losses, error = training.locator(".plot").all()
    assert losses.get_attribute("aria-label") == (
        "Loss, training from 900 to 9.25, validation from 1000 to 12"
    )
    assert "from 8.5 to 2.5" in error.get_attribute("aria-label")
    path = losses.locator(".line.first").get_attribute("d")
    places = [[float(v) for v in re.findall(r"[\d.]+", part)] for part in path.split("L")]
    across, down = np.array(places).T
    assert np.allclose(np.diff(across), np.diff(across)[0])
    np.testing.assert_allclose(np.diff(down)[0], np.diff(down)[1], rtol=0.02)  # 900, 90, 9.25: log
    error.hover(position={"x": 45, "y": 20})
    words = training.locator(".values")
    assert words.text_content() == "Epoch 1: loss 900, validation 1000, error 8.5 px"
    hand.page.mouse.move(5, 300)
    assert words.text_content() == "Epoch 3: loss 9.25, validation 12, error 2.5 px"
    training.locator("summary", has_text="Log").click()
    assert training.locator("pre").text_content() == "epoch 1\nepoch 2\n<b>done</b>"
    failed = _run(hand, 3)
    failed.locator("summary").first.click()
    failed.locator("pre", has_text="no memory left").wait_for()
    assert failed.locator(".hint").first.text_content() == "It failed; the log tells why."


def test_a_training_is_begun_seen_after_a_reload_and_stopped(panel, half_labelled):
    hand = panel(half_labelled)
    hand.page.get_by_label("Network").select_option("LEAP")
    hand.page.get_by_label("Minutes").fill("30")
    hand.page.get_by_role("button", name="Train", exact=True).click()
    hand.page.locator('.job[data-job="1"][data-state="running"] progress').wait_for()
    assert hand.page.get_by_role("button", name="Train", exact=True).is_disabled()
    models: list = []
    hand.page.route("**/api/models", lambda route: models.append(route))
    hand.page.reload()
    hand.on_image()
    hand.page.locator("#tab-partner").click()
    running = hand.page.locator('.job[data-job="1"][data-state="running"]')
    running.wait_for()
    hand.page.unroute("**/api/models")  # which lets go what is held
    hand.page.locator(".partner-panel option[value=LEAP]").wait_for(state="attached")
    assert hand.page.get_by_role("button", name="Train", exact=True).is_disabled()
    assert running.locator(".title").text_content() == "1. Training LEAP"
    running.get_by_role("button", name="Stop").click()
    # It may end by itself now, or hear only the second word: both are right.
    again = _run(hand, 1).locator(".going button", has_text="Stop at once")
    again.wait_for(state="attached")
    again.evaluate("button => button.click()")
    hand.page.locator('.job[data-job="1"][data-state="stopped"]').wait_for()
    assert hand.page.get_by_role("button", name="Train", exact=True).is_enabled()


def test_what_the_server_refuses_is_said_where_it_happened(panel, make_set):
    hand = panel(make_set())
    assert hand.page.get_by_role("button", name="Guess on all images").is_disabled()
    hand.page.get_by_role("button", name="Train", exact=True).click()
    said = hand.page.locator(".partner-panel .problem:visible", has_text="No image has a label yet")
    said.wait_for()
    assert hand.page.get_by_role("button", name="Next suggested").is_disabled()


def test_ways_of_suggesting_that_need_guesses_wait_for_them(panel, half_labelled):
    hand = panel(half_labelled)
    by = hand.page.get_by_label("By", exact=True)
    hand.page.locator(".partner-panel .hint", has_text="There are no guesses yet").wait_for()
    ways = by.evaluate("by => [...by.options].map(({ value, disabled }) => [value, disabled])")
    assert {value for value, disabled in ways if not disabled} == {"diversity"}
    assert len(ways) > 1
    assert "needs guesses" in by.locator("option[value=confidence]").text_content()
    assert by.input_value() == "diversity"
    described = hand.page.locator(f"#{by.get_attribute('aria-describedby')}")
    assert "let it guess first" in described.text_content()
    suggest = hand.page.get_by_role("button", name="Suggest", exact=True)
    assert suggest.is_enabled()
    # As soon as there is a guess, also of somebody else's model, all ways are open.
    hand.page.evaluate("dpk.rows.columns.confidence[3] = 0.5; dpk.rows.emit('columns', 3)")
    hand.page.locator(".partner-panel .hint", has_text="no guesses yet").wait_for(state="hidden")
    assert by.input_value() == "combined", "what is offered first"
    assert by.locator("option[disabled]").count() == 0
    by.select_option("speed")
    hand.page.evaluate("dpk.rows.columns.confidence[3] = null; dpk.rows.emit('columns', 3)")
    hand.page.locator(".partner-panel .hint", has_text="There are no guesses yet").wait_for()
    assert by.input_value() == "diversity"


def test_suggested_images_are_gone_through(panel, past):
    hand = panel(past)
    hand.page.get_by_label("By", exact=True).select_option("confidence")
    hand.page.get_by_label("How many").fill("3")
    hand.page.get_by_role("button", name="Suggest", exact=True).click()
    items = hand.page.locator(".suggested button")
    items.nth(2).wait_for()
    assert items.count() == 3
    order = [int(item.get_attribute("data-row")) for item in items.all()]
    assert order[0] == 14, "the one with a score of 0.25"
    assert set(order) <= {12, 13, 14, 15}
    assert "0.25" in items.first.locator(".reasons").text_content()
    items.nth(1).click()
    hand.on_image(order[1])
    hand.page.locator(f'.suggested [data-row="{order[1]}"][aria-current="true"]').wait_for()
    hand.press("Escape", "]")
    hand.on_image(order[2])
    hand.press("]")
    hand.on_image(order[0])
    hand.press("[")
    hand.on_image(order[2])
    hand.page.get_by_role("button", name="Next suggested").click()
    hand.on_image(order[0])
    hand.page.reload()
    hand.on_image(order[0])
    hand.press("]")
    hand.on_image(order[1])


def test_guesses_from_a_score_on_are_confirmed(panel, past):
    hand = panel(past)
    hand.press("/")
    hand.page.keyboard.type("14")
    hand.press("Enter")
    hand.on_image(14)
    names = hand.page.evaluate("dpk.skeleton.names")
    confirm = hand.page.locator(".partner-panel button", has_text="of this image")
    hand.page.get_by_label("Sure from (%)").fill("20")
    assert confirm.text_content() == f"Confirm {len(names)} of this image"
    hand.page.get_by_label("Sure from (%)").fill("60")
    assert confirm.text_content() == f"Confirm {len(names) - 1} of this image"
    confirm.click()
    hand.saved()
    points = hand.served.row(14)["points"]
    assert not points[names[0]][3]
    assert all(points[name] == [10, 10, 2, True] for name in names[1:])
    assert hand.page.locator(".partner-panel button", has_text="No such guess").is_disabled()


def test_a_model_that_was_trained_last_is_the_one_that_guesses(panel, past):
    hand = panel(past)
    model = hand.page.get_by_label("Model", exact=True)

    def look_again() -> None:
        hand.page.locator("#tab-label").click()
        with hand.page.expect_response("**/api/models"):
            hand.page.locator("#tab-partner").click()

    assert model.input_value() == "job 1"
    better = _job(past.with_name("labels.h5.jobs"), 4, "train", {"model": "LEAP"}, "epoch 1\n")
    (better / "model.keras").write_bytes(b"weights")
    look_again()
    hand.page.wait_for_function(
        "menu => menu.value === 'job 4'", arg=model.element_handle(), timeout=30_000
    )
    model.select_option("job 1")
    look_again()
    hand.page.locator(".partner-panel button", has_text="Guess on all images").wait_for()
    assert model.input_value() == "job 1", "what a person chose stays"


@pytest.mark.slow
def test_from_labels_to_guesses_in_the_page(panel, half_labelled):
    hand = panel(half_labelled)
    hand.page.set_default_timeout(300_000)
    hand.page.get_by_label("Network").select_option("LEAP")
    hand.page.get_by_label("Minutes").fill("0.05")
    hand.page.get_by_role("button", name="Train", exact=True).click()
    training = hand.page.locator('.job[data-job="1"][data-state="done"]')
    training.wait_for()
    training.locator(".plot").first.wait_for()
    hand.page.get_by_role("button", name="Guess on all images").click()
    hand.page.locator('.job[data-job="2"][data-state="done"]').wait_for()
    hand.page.locator('.thumb[data-row="15"] .confidence').wait_for()
    assert hand.served.row(15)["guess"]["model"] == "job 1"
    assert not any(point[3] for point in hand.served.row(15)["points"].values())
