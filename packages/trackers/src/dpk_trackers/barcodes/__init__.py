"""2-D barcodes: dictionaries of tags, sheets to print, and readers that find them in frames."""

from __future__ import annotations

from dpk_trackers.barcodes.dictionary import TagDictionary
from dpk_trackers.barcodes.readers import Reading, Readings, TagReader, make_reader
from dpk_trackers.barcodes.sheets import print_sheet

__all__ = ["Reading", "Readings", "TagDictionary", "TagReader", "make_reader", "print_sheet"]
