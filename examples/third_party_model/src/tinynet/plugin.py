"""What this package brings to dpk."""

from dpk_core import hookimpl
from dpk_core.specs import ModelSpec


@hookimpl
def dpk_models() -> list[ModelSpec]:
    return [ModelSpec("TinyNet", "a small encoder-decoder", "tinynet.model:TinyNet")]
