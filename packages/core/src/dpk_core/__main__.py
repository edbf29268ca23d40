"""``python -m dpk_core`` is ``dpk``, for where scripts are not on the path."""

from __future__ import annotations

from dpk_core.cli import main

if __name__ == "__main__":
    main()
