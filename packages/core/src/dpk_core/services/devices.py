"""What the machine has, found out without importing a deep-learning framework."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache


def framework_priority() -> int:
    """How a deep-learning framework ranks among the engines of this machine: first on a GPU."""
    return 30 if has_gpu() else 10


@cache
def has_gpu() -> bool:
    """Whether an NVIDIA GPU can be used by this process.

    ``CUDA_VISIBLE_DEVICES`` set to nothing or -1 hides them, as it does from all frameworks.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    program = shutil.which("nvidia-smi")
    if program is None:
        return False
    try:
        done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and "GPU" in done.stdout
