"""What this package brings to dpk."""

from dpk_core import hookimpl
from dpk_core.specs import FormatSpec


@hookimpl
def dpk_formats() -> list[FormatSpec]:
    return [
        FormatSpec(
            "pointlist",
            "poses as a plain list of points",
            "pointlist.format:PointList",
            reads=("poses",),
            writes=("poses",),
            suffixes=(".points",),
        )
    ]
