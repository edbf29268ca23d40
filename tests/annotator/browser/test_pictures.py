"""Pixels and places are exact: tiny and large pictures, screens of any density."""

from __future__ import annotations

import numpy as np
import pytest

from dpk_core.annotations import Source


def _dots(size: tuple[int, int], places: list[tuple[int, int]]) -> np.ndarray:
    """(1, h, w, 1) black with single white pixels at (x, y)."""
    image = np.zeros((1, *size, 1), np.uint8)
    for x, y in places:
        image[0, y, x] = 255
    return image


def _white_middle(png: bytes) -> tuple[float, float]:
    """Where on the screenshot the white pixel's square has its middle, in device pixels."""
    import cv2

    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    rows, columns = np.nonzero(image > 200)
    return (columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2


@pytest.mark.parametrize("ratio", [1, 1.5, 2], ids=str)
def test_a_click_on_a_painted_dot_labels_that_pixel(serve, open_page, make_set, ratio):
    x, y = 37, 11
    served = serve(make_set(names=("dot",), images=_dots((64, 80), [(x, y)])))
    hand = open_page(served, device_scale_factor=ratio, color_scheme="dark")
    hide = "dpk.settings.set({names: 'none', loupe: false}); dpk.stage.marks.hidden = true;"
    hand.page.evaluate(hide)
    hand.page.locator(".zoom").evaluate("made => { made.hidden = true; }")
    canvas = hand.page.locator("#stage canvas.picture")
    box = canvas.bounding_box()
    u, v = _white_middle(canvas.screenshot())
    # A mouse stands on a whole pixel of the screen; its hot spot is that pixel's middle.
    hand.page.mouse.click(box["x"] + np.floor(u) / ratio, box["y"] + np.floor(v) / ratio)
    hand.saved()
    scale = hand.page.evaluate("dpk.stage.view.scale")
    # Half a pixel of the screen where the square is drawn, half a one where the mouse stands.
    assert served.point(0, "dot")[:2] == pytest.approx([x, y], abs=1.01 / scale)
    assert scale == pytest.approx(8.36 * ratio, abs=0.1)


def test_a_pixel_is_drawn_as_a_whole_square(serve, open_page, make_set):
    served = serve(make_set(names=("dot",), images=_dots((8, 8), [(0, 0), (7, 7)])))
    hand = open_page(served)
    hand.page.evaluate("dpk.stage.view.scale = 32; dpk.stage.view.centre(3.5, 3.5); dpk.viewed()")
    colours = hand.page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => { const { view, imageContext } ="
        " dpk.stage; const at = (x, y) => imageContext.getImageData(view.left + x, view.top + y,"
        " 1, 1).data[0]; done([at(0, 0), at(31, 31), at(32, 31), at(224, 224), at(223, 224),"
        " at(255, 255)]); }))"
    )
    assert colours == [255, 255, 0, 255, 0, 255]


def test_corners_are_half_a_pixel_out(serve, open_page, make_set):
    served = serve(make_set(names=("one",), size=(16, 16)))
    hand = open_page(served)
    left, top = hand.page.evaluate("[dpk.stage.view.left, dpk.stage.view.top]")
    assert hand.page.evaluate("dpk.stage.view.toDevice(-0.5, -0.5)") == [left, top]
    x, y = hand.page.evaluate("dpk.stage.view.toImage(...dpk.stage.view.toDevice(3.25, 7.75))")
    assert (x, y) == pytest.approx((3.25, 7.75), abs=1e-9)


def test_zooms_to_the_pointer_and_pans(serve, open_page, make_set):
    hand = open_page(serve(make_set()))
    place = hand.place(100, 20)
    before = hand.page.evaluate("dpk.stage.view.scale")
    hand.page.mouse.move(*place)
    for turns in range(1, 7):
        hand.page.mouse.wheel(0, -100)
        # Where turns come faster than the page takes them, the browser makes one of several.
        hand.page.wait_for_function(
            "least => dpk.stage.view.scale > least", arg=1.19**turns * before
        )
    assert hand.place(100, 20) == pytest.approx(place, abs=2)
    assert hand.page.evaluate("dpk.stage.view.scale") == pytest.approx(1.2**6 * before)
    hand.page.keyboard.down(" ")
    hand.page.mouse.move(400, 300)
    hand.page.mouse.down()
    hand.page.mouse.move(450, 280)
    hand.page.mouse.up()
    hand.page.keyboard.up(" ")
    moved = hand.place(100, 20)
    assert (moved[0] - place[0], moved[1] - place[1]) == pytest.approx((50, -20), abs=2)
    assert hand.page.evaluate("dpk.step") == 1, "a space bar that pans does not change the step"
    hand.press("0")
    assert hand.page.evaluate("dpk.stage.view.fitted")


def test_a_picture_of_three_pixels(serve, open_page, make_set):
    served = serve(make_set(names=("a", "b"), size=(1, 3)))
    hand = open_page(served)
    hand.click(2, 0)
    hand.click(0, 0)
    hand.saved()
    assert served.point(0, "a")[:2] == pytest.approx([2, 0], abs=0.01)
    assert served.point(0, "b")[:2] == pytest.approx([0, 0], abs=0.01)


def test_a_4k_picture(serve, open_page, make_set):
    images = np.random.default_rng(0).integers(0, 256, (2, 2160, 3840, 3), np.uint8)
    served = serve(make_set(names=("a", "b"), images=images))
    hand = open_page(served)
    hand.click(3000, 2000)
    hand.press("Alt+d")
    hand.press("l")
    hand.on_image(1)
    hand.saved()
    x, y = served.point(0, "a")[:2]
    assert (x, y) == pytest.approx((3000, 2000), abs=3)
    pixels = hand.page.evaluate(
        "() => { const c = new OffscreenCanvas(4, 1).getContext('2d');"
        " c.drawImage(dpk.stage.picture, 100, 50, 4, 1, 0, 0, 4, 1);"
        " return [...c.getImageData(0, 0, 4, 1).data]; }"
    )
    seen = np.array(pixels).reshape(4, 4)[:, :3]
    assert seen.tolist() == images[1, 50, 100:104].tolist(), "the pixels of the set, exactly"


def test_padding_is_shown_as_padding(serve, open_page, make_set):
    images = np.full((1, 60, 80, 1), 255, np.uint8)
    sources = (Source("small.png", size=(40, 50)),)
    served = serve(make_set(names=("a",), images=images, sources=sources))
    hand = open_page(served)
    at = (
        "([x, y]) => { const { view, imageContext } = dpk.stage;"
        " return [...imageContext.getImageData(...view.toDevice(x, y), 1, 1).data]; }"
    )
    assert hand.page.evaluate(at, [48, 38]) == [255, 255, 255, 255]
    assert max(hand.page.evaluate(at, [53, 20])[:3]) < 120
    assert max(hand.page.evaluate(at, [20, 45])[:3]) < 120


def test_contrast_is_for_the_eye_only(serve, open_page, make_set):
    rng = np.random.default_rng(1)
    images = (100 + rng.integers(0, 6, (2, 64, 64, 1))).astype(np.uint8)
    served = serve(make_set(names=("a",), images=images))
    hand = open_page(served)
    hand.page.get_by_role("tab", name="Display").click()
    spread = (
        "() => { const c = dpk.stage.imageContext, v = dpk.stage.view; const d = c.getImageData("
        "v.left + 40, v.top + 40, 200, 200).data.filter((_, i) => i % 4 === 0);"
        " return Math.max(...d) - Math.min(...d); }"
    )
    before = hand.page.evaluate(spread)
    hand.page.get_by_label("Local contrast").fill("100")
    hand.page.wait_for_function(f"before => ({spread})() > 3 * before", arg=before)
    hand.page.get_by_label("Brightness").fill("50")
    assert "brightness(2)" in hand.page.evaluate("dpk.stage.image.style.filter")
    hand.page.get_by_role("button", name="As it is in the set").click()
    hand.page.wait_for_function(f"before => ({spread})() === before", arg=before)
    assert served.stop().images[0].tolist() == images[0].tolist()


def test_many_images_make_few_thumbnails(serve, open_page, make_set):
    served = serve(make_set(names=("a",), n=3000, size=(4, 4)))
    hand = open_page(served)
    assert hand.page.locator(".thumb").count() < 40
    hand.page.evaluate("document.querySelector('#strip').scrollLeft = 1500 * 104")
    hand.page.locator('.thumb[data-row="1500"]').click()
    hand.on_image(1500)
    assert hand.page.locator(".thumb").count() < 40
    hand.page.locator("#strip").focus()
    hand.press("End")
    hand.on_image(2999)
