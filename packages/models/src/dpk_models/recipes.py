"""Recipes: named sets of training options that were found to go well together.

What each is worth on frames that were not trained on: benchmarks/recipes.
"""

from __future__ import annotations

import difflib

import attrs

from dpk_core.errors import ValidationError

DEFAULT = "cosine"


@attrs.frozen
class Recipe:
    """Defaults of the options of a training; an option that is given wins.

    Parameters
    ----------
    name, summary
        What it is called, and a line about it.
    batch_size, learning_rate, schedule, ema
        As in `dpk_models.options.TrainingOptions`. Without a rate the model's own is taken.
    steps, passes
        How long a training lasts whose schedule has to know the end, when nobody says so: so many
        steps, and at least so many times over the training images.
    """

    name: str
    summary: str
    batch_size: int = 16
    learning_rate: float | None = None
    schedule: str = "plateau"
    ema: float = 0.0
    steps: int = 4000
    passes: int = 30

    def epochs(self, n_images: int, batch_size: int) -> int:
        """Passes over so many training images that make up those steps.

        Examples
        --------
        >>> RECIPES["cosine"].epochs(n_images=90, batch_size=4)
        174
        """
        return max(self.passes, -(-self.steps // -(-n_images // batch_size)))


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "cosine",
            "small batches and a high rate that falls along a cosine to the end of 4,000 steps",
            batch_size=4,
            schedule="cosine",
        ),
        Recipe(
            "paper",
            "the routine of Graving et al. 2019: batches of 16, a rate of 1e-3 divided by 5 "
            "whenever the validation loss stalls, the end when it stalls for 50 epochs",
            learning_rate=1e-3,
        ),
    )
}


def get_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises
    ------
    ValidationError
        With the names there are.
    """
    if name in RECIPES:
        return RECIPES[name]
    close = difflib.get_close_matches(str(name).lower(), RECIPES, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValidationError(f"recipe: expected {' or '.join(RECIPES)}, found {name!r}{hint}")
