"""What dpk-core itself brings, announced like everybody else's."""

from __future__ import annotations

from dpk_core.hookspecs import hookimpl
from dpk_core.specs import AugmenterSpec


@hookimpl
def dpk_augmenters() -> list[AugmenterSpec]:
    return [
        AugmenterSpec(
            "default",
            "flips, rotation, scale, shift, noise, dropout, blur, contrast (Graving et al. 2019)",
            "dpk_core.services.augment:default_augmenter",
        )
    ]
