"""What holds for all tests.

They may live under `operator/`, a folder whose name is also the standard library's: pytest names a test module after its path and
would put a new, empty `operator` in place of the real one; a module that has a path of its own is left as it is. And no test is
about seconds: machines are shared, so generated examples have no deadline.
"""

import operator
from pathlib import Path

from hypothesis import settings

settings.register_profile("shared machines", deadline=None)
settings.load_profile("shared machines")

operator.__path__ = [str(Path(__file__).parent / "operator")]  # type: ignore[attr-defined]  # a module that is no package declares none; see above
