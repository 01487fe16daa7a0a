"""The functions of expressions, beside those of the language itself."""

from collections.abc import Mapping
from typing import Any

FUNCTIONS: Mapping[str, Any] = {}
