"""Video: frames by number and in sequence, exact for any file; writing; which codecs there are."""

from __future__ import annotations

from dpk_core.services.video.codecs import CodecSupport, list_codecs
from dpk_core.services.video.damage import VideoCheck
from dpk_core.services.video.reader import VideoReader
from dpk_core.services.video.writer import VideoWriter

__all__ = ["CodecSupport", "VideoCheck", "VideoReader", "VideoWriter", "list_codecs"]
