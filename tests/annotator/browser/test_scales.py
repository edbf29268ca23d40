"""Round numbers of rulers and charts, and colours of the theme on a canvas."""

from __future__ import annotations

import pytest


@pytest.fixture
def page(serve, open_page, make_set):
    return open_page(serve(make_set()), color_scheme="dark").page


def test_steps_and_ticks_are_round(page):
    steps = page.evaluate(
        "values => import('./static/axis.js').then(({ roundStep }) => values.map(roundStep))",
        [0.3, 0.5, 0.6, 1, 1.01, 4.9, 7, 10, 11, 2e6],
    )
    assert steps == [0.5, 0.5, 1, 1, 2, 5, 10, 10, 20, 2e6]
    ticks = page.evaluate(
        "spans => import('./static/axis.js').then("
        "({ multiples }) => spans.map((span) => multiples(...span)))",
        [[0, 0.6, 0.1], [3, 20, 5], [5, 20, 5], [-0.5, 2.5, 1], [0.2, 0.9, 1]],
    )
    assert ticks == [[0, 0.1, 0.2, 0.3, 0.4, 0.5], [5, 10, 15], [5, 10, 15], [0, 1, 2], []]


def test_ink_has_the_colours_of_the_theme_and_changes_with_it(page):
    found = page.evaluate(
        """async () => {
          const { Ink } = await import('./static/ink.js');
          const ink = new Ink(document.getElementById('stage'));
          const seen = (theme) => {
            dpk.settings.set({ theme });
            ink.forget();
            const ground = getComputedStyle(document.body).backgroundColor;
            return [ink.colour('ground') === ground, ground];
          };
          return ['system', 'dark', 'light'].map(seen);
        }"""
    )
    (system, ground), (dark, as_dark), (light, as_light) = found
    assert all((system, dark, light))
    assert ground == as_dark != as_light
