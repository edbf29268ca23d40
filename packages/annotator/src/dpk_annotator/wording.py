"""Sentences for people: one image, two images."""

from __future__ import annotations


def count_of(n: int, thing: str) -> str:
    """A number of things in words that a person would say.

    Examples
    --------
    >>> count_of(1, "image"), count_of(3, "image")
    ('1 image', '3 images')
    """
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"
