"""Fixtures of the whole suite live in plugins beside this file."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

pytest_plugins = ["fixtures_needs", "fixtures_upstream", "fixtures_door"]
