"""What all requests to one server share."""

from __future__ import annotations

import attrs

from dpk_annotator.events import Hub
from dpk_annotator.films import Films
from dpk_annotator.images import ByteCache
from dpk_annotator.partner import Partner
from dpk_annotator.reviews import Reviews
from dpk_annotator.store import Store

IMAGE_BYTES, THUMBNAIL_BYTES = 64 * 2**20, 16 * 2**20


@attrs.frozen
class Context:
    """The set that is served, the pages that listen, and images that were encoded last.

    Parameters
    ----------
    store
        The open set.
    hub
        Tells pages of changes.
    partner
        Trains, guesses and suggests.
    films, reviews
        Videos around the set, and what models found in them.
    images, thumbnails
        Encoded images by row, bounded in bytes.
    """

    store: Store
    hub: Hub = attrs.field(factory=Hub)
    partner: Partner = attrs.field(
        default=attrs.Factory(lambda self: Partner(self.store), takes_self=True)
    )
    films: Films = attrs.field(
        default=attrs.Factory(lambda self: Films(self.store), takes_self=True)
    )
    reviews: Reviews = attrs.field(
        default=attrs.Factory(lambda self: Reviews(self.store, self.films), takes_self=True)
    )
    images: ByteCache = attrs.field(factory=lambda: ByteCache(IMAGE_BYTES))
    thumbnails: ByteCache = attrs.field(factory=lambda: ByteCache(THUMBNAIL_BYTES))
