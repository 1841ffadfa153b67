"""Lets tests live under `operator/`, a folder whose name is also the standard library's.

pytest names a test module after its path and would put a new, empty `operator` in place of the real one; a module that has a
path of its own is left as it is.
"""

import operator
from pathlib import Path

operator.__path__ = [str(Path(__file__).parent / "operator")]  # type: ignore[attr-defined]  # a module that is no package declares none; see above
