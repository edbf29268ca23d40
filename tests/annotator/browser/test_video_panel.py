"""Videos in the page: exact frames, frames for the set, poses along the timeline, identities."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dpk_core import Poses, VideoWriter
from dpk_core.annotations import AnnotationSet, Source
from dpk_core.services.storage import read_annotations, read_poses, write_annotations, write_poses
from dpk_core.skeleton import Skeleton

N, SIDE, BITS = 300, 16, 9
SKELETON = Skeleton(("head", "body", "tail"), (-1, 0, 1), (-1, -1, -1))
IN_SET = (0, 100, 200)
MODE = "dpk.tabs.panels.find(({ id }) => id === 'videos').view.mode"


def _frame(number: int) -> np.ndarray:
    """(64, 144, 3): the number in black and white squares, lowest bit first; gray below."""
    image = np.full((64, SIDE * BITS, 3), 110, np.uint8)
    for bit in range(BITS):
        image[:SIDE, bit * SIDE : (bit + 1) * SIDE] = 255 * (number >> bit & 1)
    return image


@pytest.fixture
def filmed(tmp_path: Path) -> Path:
    """A set with three frames of a video that lies beside it."""
    with VideoWriter(tmp_path / "day1.mp4", fps=30) as writer:
        for number in range(N):
            writer.write(_frame(number))
    images = np.stack([_frame(number) for number in IN_SET])
    sources = tuple(Source("day1.mp4", number) for number in IN_SET)
    keypoints = np.full((len(IN_SET), len(SKELETON), 2), np.nan)
    path = tmp_path / "labels.h5"
    write_annotations(path, AnnotationSet(images, keypoints, SKELETON, sources=sources))
    return path


@pytest.fixture
def poses(filmed: Path) -> Path:
    """Two animals side by side: unsure from 60 to 64, most at 62, and at 150; fast at 240."""
    frames, ids = np.repeat(np.arange(N), 2), np.tile([0, 1], N)
    shape = np.array([[0, 0], [8, 4], [16, 8]], np.float32)
    left = np.where(ids == 0, 12, 90)[:, None, None].astype(np.float32)
    keypoints = shape + np.concatenate([left + frames[:, None, None] / 20, left * 0 + 30], axis=2)
    scores = np.full((2 * N, 3), 0.9, np.float32)
    scores[(frames >= 60) & (frames < 65) & (ids == 1)] = 0.3
    scores[(frames == 62) & (ids == 1)] = 0.1
    scores[(frames == 150) & (ids == 0)] = 0.2
    keypoints[(frames >= 240) & (ids == 0), :, 1] += 20
    path = filmed.with_name("day1.poses.h5")
    provenance = {"video": "day1.mp4"}
    made = Poses(keypoints, scores, SKELETON, frames=frames, track_ids=ids, provenance=provenance)
    write_poses(path, made)
    return path


class Film:
    """What a person does with a video."""

    def __init__(self, hand) -> None:
        self.hand, self.page = hand, hand.page
        self.page.on("console", self._listen)

    def _listen(self, message) -> None:
        if "Security Policy" in message.text:
            self.hand.problems.append(message.text)

    def open(self, name: str = "day1.mp4"):
        self.page.locator("#tab-videos").click()
        self.page.locator(".video", has_text=name).click()
        return self

    def on(self, frame: int):
        """Wait until this frame is seen, and look whether it is."""
        self.page.locator(f'#film[data-frame="{frame}"]').wait_for()
        assert self.seen() == frame
        return self

    def seen(self) -> int:
        """The number that is painted."""
        bits = self.page.evaluate(
            "([bits, side]) => new Promise((done) => requestAnimationFrame(() => {"
            f" const {{ stage }} = {MODE}; const middle = (i) => (i + 0.5) * side;"
            " const at = (i) => stage.view.toDevice(middle(i), middle(0));"
            " const gray = (i) => stage.imageContext.getImageData(...at(i), 1, 1).data[0];"
            " done(Array.from({ length: bits }, (_, i) => gray(i) > 127)); }))",
            [BITS, SIDE],
        )
        return sum(bit << i for i, bit in enumerate(bits))

    def type(self, number: object):
        self.hand.press("g")
        self.page.keyboard.type(str(number))
        self.hand.press("Enter")
        return self

    def place(self, frame: float, down: float = 0.3) -> tuple[float, float]:
        """Where a frame is on the timeline when all of it is seen."""
        box = self.page.locator("canvas.timeline").bounding_box()
        return box["x"] + box["width"] * (frame + 0.5) / N, box["y"] + box["height"] * down

    def button(self, name: str):
        return self.page.get_by_role("button", name=name)

    def said(self, text: str):
        return self.page.locator("#film .brief", has_text=text).wait_for()


@pytest.fixture
def film(serve, open_page):
    def show(path: Path, *options: str) -> Film:
        return Film(open_page(serve(path, *options)))

    return show


def test_every_way_leads_to_exactly_that_frame(film, filmed):
    seen = film(filmed).open().on(0)
    seen.type(137).on(137)
    for key, frame in (
        ("ArrowRight", 138), ("e", 139), ("ArrowLeft", 138), ("Shift+ArrowRight", 148),
        ("PageDown", 178), ("PageUp", 148), (",", 138), ("End", 299), ("ArrowRight", 299),
        ("Home", 0), ("q", 0),
    ):  # fmt: skip
        seen.hand.press(key)
        seen.on(frame)
    seen.page.mouse.click(*seen.place(211))
    seen.on(211)
    timeline = seen.page.locator("canvas.timeline")
    assert timeline.get_attribute("aria-valuenow") == "211"
    assert timeline.get_attribute("aria-valuetext") == "Frame 211, 0:07.0"
    timeline.focus()
    seen.hand.press("ArrowLeft")
    seen.on(210)
    seen.type(N).said("There is no frame 300: expected a number from 0 to 299")
    seen.hand.press("Escape")
    assert seen.hand.focused() == "film"
    seen.on(210)


def _wait_for(page, condition: Callable[[], object]) -> None:
    """Let the page go on until this is so, at most as long as for anything else in it."""
    for _ in range(3000):
        if condition():
            return
        page.wait_for_timeout(10)
    raise AssertionError("it took too long")


def test_a_hand_that_drags_never_waits_for_frames_it_has_passed(film, filmed):
    seen = film(filmed).open().on(0)
    # Those around the first one are fetched ahead, in order; this is the last.
    seen.page.wait_for_function(
        "() => performance.getEntriesByType('resource').some(({ name }) => name.endsWith('/10'))"
    )
    held: list = []
    seen.page.route("**/api/videos/*/frames/*", lambda route: held.append(route))
    mouse = seen.page.mouse
    mouse.move(*seen.place(100))
    mouse.down()
    for frame in range(105, 255, 5):
        mouse.move(*seen.place(frame))
    seen.page.locator('canvas.timeline[aria-valuenow="250"]').wait_for()
    _wait_for(seen.page, lambda: held)
    assert [route.request.url.rsplit("/", 1)[1] for route in held] == ["100"]
    held[0].continue_()
    _wait_for(seen.page, lambda: len(held) > 1)
    assert [route.request.url.rsplit("/", 1)[1] for route in held[:2]] == ["100", "250"]
    seen.page.unroute("**/api/videos/*/frames/*")  # which lets go what is held
    seen.on(250)
    mouse.up()


def test_a_frame_comes_to_the_set_and_is_labelled_there(film, filmed):
    seen = film(filmed).open().on(0)
    label = seen.button("Label it (image 0)")
    label.wait_for()
    seen.type(42).on(42)
    seen.button("Add this frame").wait_for()
    seen.hand.press("a")
    seen.said("Frame 42 is image 3 now.")
    seen.hand.press("a")
    seen.said("Frame 42 is in the set already.")
    seen.button("Label it (image 3)").wait_for()
    seen.page.locator("#film .where", has_text="image 3 of the set").wait_for()
    seen.hand.press("Enter")
    seen.hand.on_image(3)
    assert seen.page.locator("#film").is_hidden()
    assert seen.hand.focused() == "stage"
    seen.hand.click(20, 40)
    seen.hand.saved()
    file = seen.hand.served.stop()
    assert file.sources[3].frame == 42
    assert file.annotated[3].tolist() == [True, False, False]
    np.testing.assert_allclose(file.images[3][:SIDE].astype(int), _frame(42)[:SIDE], atol=20)


def test_a_new_image_is_labelled_before_the_news_of_it_comes(serve, open_page, filmed):
    hand = open_page(serve(filmed), wait=False)
    hand.page.route("**/api/events*", lambda route: None)
    seen = Film(hand.open()).open().on(0)
    seen.type(42).on(42)
    seen.hand.press("a")
    seen.said("Frame 42 is image 3 now.")
    seen.hand.press("Enter")
    seen.hand.on_image(3)
    seen.hand.click(20, 40)
    seen.hand.saved()
    assert seen.hand.served.point(3, "head")[3]


def test_several_frames_are_selected_and_added_at_once(film, filmed):
    seen = film(filmed).open().on(0)
    for frame in (250, 7, 33):
        seen.type(frame).on(frame)
        seen.hand.press("s")
    select = seen.page.get_by_role("button", name="Select", exact=True)
    select.click()
    assert select.get_attribute("aria-pressed") == "false"
    seen.button("Add 2 selected frames").click()
    seen.said("2 frames are in the set now: image 3 to 4.")
    seen.page.mouse.click(*seen.place(7.8, 0.75))
    seen.on(7)  # a press near a mark goes to it
    assert [s.frame for s in seen.hand.served.stop().sources] == [*IN_SET, 7, 250]


def test_leaving_leads_back_to_the_same_image_and_keys_of_labelling_rest(film, filmed):
    seen = film(filmed)
    seen.hand.press("e")
    seen.hand.on_image(1)
    seen.open().on(0)
    seen.hand.press("w", "d", "f", "r", "c", "z", "t")
    seen.type(9).on(9)
    seen.hand.press("Escape")
    assert seen.hand.row == 1
    assert seen.hand.focused() == "stage"
    assert seen.page.locator(".film-bar").is_hidden()
    assert seen.hand.served.row(1)["revision"] == 0
    seen.hand.press("f")
    seen.hand.saved()
    assert seen.hand.served.row(1)["finished"]
    seen.open().on(9)  # where one was
    seen.page.locator("#tab-label").click()
    assert seen.page.locator("#film").is_hidden()


def test_keys_of_videos_are_chosen_in_the_same_table_and_hold_there_alone(film, filmed):
    seen = film(filmed).open().on(0)
    seen.hand.press("?")
    dialog = seen.page.locator("dialog.help")
    assert dialog.locator("h3").first.text_content() == "Video", "what is shown comes first"
    dialog.locator('[data-action="film-next"]').click()
    seen.hand.press("t")
    assert dialog.locator('[data-action="film-next"]').text_content() == "T"
    assert dialog.locator('[data-action="swap"]').text_content() == "T", "of the images"
    dialog.locator('[data-action="film-select"]').click()
    seen.hand.press("t")
    assert dialog.locator('[data-action="film-next"]').text_content() == "no key"
    dialog.locator('[data-action="help"]').click()
    seen.hand.press("x")
    for action in ("film-exchange", "absent"):
        assert dialog.locator(f'[data-action="{action}"]').text_content() == "no key"
    seen.hand.press("Escape")
    seen.button("No frame is selected (T)").wait_for()
    seen.page.locator("#film").focus()
    seen.hand.press("t")
    seen.button("Add 1 selected frame").wait_for()
    seen.hand.press("s", "ArrowRight", "e")
    assert seen.page.evaluate(f"{MODE}.frame") == 0, "keys that were there before rest"
    seen.hand.press("x")
    dialog.get_by_role("button", name="All as at first").click()
    seen.hand.press("Escape")
    seen.page.locator("#film").focus()
    seen.hand.press("ArrowRight")
    seen.on(1)


def test_it_plays_by_the_clock(film, filmed):
    seen = film(filmed).open().on(0)
    seen.hand.press("Space")
    seen.button("Pause").wait_for()
    seen.page.evaluate(f"{MODE}.player.setSpeed(0.25)")  # not at its end before the hand is there
    early = "".join(f':not([aria-valuenow="{frame}"])' for frame in range(6))
    seen.page.locator(f"canvas.timeline{early}").wait_for()
    seen.hand.press("Space")
    seen.button("Play").wait_for()
    frame = int(seen.page.get_by_label("Number of the frame").input_value())
    seen.on(frame)


def test_a_video_that_is_gone_or_broken_says_so(film, filmed):
    filmed.with_name("day1.mp4").unlink()
    filmed.with_name("broken.avi").write_bytes(b"no video")
    seen = film(filmed)
    seen.page.locator("#tab-videos").click()
    gone = seen.page.locator(".video", has_text="day1.mp4")
    assert gone.locator(".gone").text_content() == "not there"
    problem = seen.page.locator(".videos-panel .problem").first
    gone.click()
    seen.page.locator(".videos-panel .problem", has_text="dpk relink").wait_for()
    seen.page.locator(".video", has_text="broken.avi").click()
    seen.page.locator(".videos-panel .problem", has_text="broken.avi").wait_for()
    assert problem.is_visible()
    assert seen.page.locator("#film").is_hidden()


def test_poses_are_drawn_in_their_places(film, filmed, poses):
    seen = film(filmed).open().on(0)
    seen.type(100).on(100)
    painted = (
        f"([x, y]) => {{ const {{ stage }} = {MODE}; const [u, v] = stage.view.toDevice(x, y);"
        " return [...stage.marksContext.getImageData(u, v, 1, 1).data]; }"
    )

    def until(place: list[float], opacity: str) -> None:
        seen.page.wait_for_function(f"place => ({painted})(place)[3] {opacity}", arg=place)

    until([17, 30], "=== 255")
    first = seen.page.evaluate(painted, [17, 30])
    second = seen.page.evaluate(painted, [95, 30])
    assert first[3] == second[3] == 255
    assert first != second, "each individual has its colour"
    assert seen.page.evaluate(painted, [60, 20])[3] == 0
    trail = [13.5 + 8, 34]
    assert seen.page.evaluate(painted, trail)[3] == 0
    seen.page.get_by_label("Trail", exact=True).fill("100")
    until(trail, "> 0")
    seen.page.get_by_label("Skeletons").uncheck()
    until([17, 30], "=== 0")


def test_moments_that_are_worth_a_look_are_found(film, filmed, poses):
    seen = film(filmed).open().on(0)
    seen.page.get_by_label("Unsure below").fill("50")
    unsure, fast = seen.button("Next unsure"), seen.button("Next fast")
    unsure.click()
    seen.on(62)  # of five frames the worst
    unsure.click()
    seen.on(150)
    unsure.click()
    seen.said("There is no unsure moment after this one.")
    seen.page.locator("#film").focus()
    seen.hand.press("Shift+U")
    seen.on(62)
    seen.page.get_by_label("Fast from").fill("5")
    fast.click()
    seen.on(240)
    seen.page.locator("#film").focus()
    seen.hand.press("u")
    seen.said("There is no unsure moment")
    seen.on(240)


def test_what_comes_late_is_told_and_changes_nothing_that_was_said(film, filmed, poses):
    seen = film(filmed)
    held: list = []
    seen.page.route("**/api/poses/*/columns*", lambda route: held.append(route))
    seen.open().on(0)
    seen.page.get_by_label("Fast from").fill("5")
    seen.page.mouse.move(*seen.place(150))
    seen.page.locator(".readout", has_text="frame 150").wait_for()
    seen.page.unroute("**/api/poses/*/columns*")  # which lets go what is held
    seen.page.locator(".readout", has_text="frame 150, 20 %").wait_for()
    seen.page.wait_for_function(f"async () => Boolean(await {MODE}.poses.overview())")
    seen.hand.settled()
    assert seen.page.evaluate(f"{MODE}.look.fast") == 5


def test_the_timeline_is_enlarged_and_pressed(film, filmed, poses):
    seen = film(filmed).open().on(0)
    box = seen.page.locator("canvas.timeline").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + 20
    seen.page.mouse.move(*middle)
    seen.page.locator(".readout", has_text="frame 150, 20 %").wait_for()
    for _ in range(4):
        seen.page.mouse.wheel(0, -200)
    seen.page.wait_for_function(
        f"() => {{ const [start, stop] = {MODE}.timeline.range; return stop - start < 60; }}"
    )
    start, stop = seen.page.evaluate(f"{MODE}.timeline.range")
    assert start < 150 < stop
    seen.page.mouse.click(*middle)
    seen.on(150)
    seen.button("Whole").click()
    assert seen.page.evaluate(f"{MODE}.timeline.range") == [0, N]


def test_the_panel_says_what_a_press_does_until_one_is_made(film, filmed):
    seen = film(filmed)
    seen.page.locator("#tab-videos").click()
    how = seen.page.get_by_text("Press a video to look through it")
    how.wait_for()
    seen.open().on(0)
    assert how.is_hidden()


def test_identities_are_exchanged_from_here_on_and_taken_back(film, filmed, poses):
    seen = film(filmed).open().on(0)
    before = read_poses(poses).track_ids
    seen.type(280).on(280)
    exchange = seen.button("Exchange from frame 280 on")
    exchange.click()
    seen.said("Exchanged: 0 and 1 from frame 280 on, 40 poses.")
    after = read_poses(poses)
    np.testing.assert_array_equal(after.track_ids[:560], before[:560])
    np.testing.assert_array_equal(after.track_ids[560:], 1 - before[560:])
    # What was exchanged before the page was loaded anew, by this server or another, goes back, too.
    seen.hand.page.reload()
    seen.hand.on_image()
    seen.open().on(0).type(280).on(280)
    seen.page.locator(".hint", has_text="The file notes 1 exchange;").wait_for()
    seen.button("Take back: 0 and 1 from frame 280").click()
    seen.said("Taken back")
    np.testing.assert_array_equal(read_poses(poses).track_ids, before)
    assert seen.page.get_by_role("button", name="Take back").count() == 0
    # Pressed in the picture: the one pressed last takes the place of the one before it.
    seen.page.evaluate(f"{MODE}.choose([0, 0])")
    assert exchange.is_disabled()
    # They are fetched anew after an exchange; until then there is nothing to press.
    seen.page.wait_for_function(f"() => {MODE}.poses.at(280) !== null")
    u, v = seen.page.evaluate(f"{MODE}.stage.view.toDevice(108, 34)")
    box = seen.page.locator("#film").bounding_box()
    seen.page.mouse.click(box["x"] + u, box["y"] + v)
    seen.page.locator("#film").focus()
    seen.hand.press("x")
    seen.said("Exchanged: 0 and 1 from frame 280 on")


def test_a_set_that_is_only_looked_at_offers_nothing_that_changes_it(film, filmed, poses):
    seen = film(filmed, "--read-only").open().on(0)
    seen.type(30).on(30)
    for name in ("Add this frame", "Choose and add", "Exchange from frame 30 on"):
        assert seen.button(name).is_disabled()
    seen.hand.press("a")
    seen.said("Frame 30 could not be added")


@pytest.mark.slow
def test_frames_that_differ_are_chosen_by_a_job(film, filmed):
    seen = film(filmed).open().on(0)
    seen.page.get_by_label("Frames that differ much").fill("4")
    seen.button("Choose and add").click()
    seen.page.locator('.videos-panel .job[data-state="done"]').wait_for(timeout=120_000)
    seen.page.locator("#total", has_text="of 0–6").wait_for()
    file = seen.hand.served.stop()
    assert len(file) == 7
    assert len({source.frame for source in file.sources}) == 7
    assert len(read_annotations(filmed)) == 7
