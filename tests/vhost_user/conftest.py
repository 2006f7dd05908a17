# SPDX-License-Identifier: BSD-3-Clause
"""Makes `tests.frontend` importable, behind whatever is installed."""

from __future__ import annotations

import sys
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[2])
if _ROOT not in sys.path:
    sys.path.append(_ROOT)
