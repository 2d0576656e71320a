"""pip that sees another machine's environment markers: `python -I target_pip.py MARKERS-AS-JSON ARGUMENTS…`.

pip chooses wheels for the platform that its options name, but asks the running interpreter for environment markers (its
documentation says so): on an amd64 machine `pywin32; sys_platform == "win32"` is right for an arm64 target only by luck,
and `typing-extensions; python_version < "3.13"` is wrong as soon as the versions differ. Its vendored `packaging` has one
function for all markers, which is replaced here; a test holds that it is still asked.
"""

from __future__ import annotations

import json
import runpy
import sys


def main() -> None:
    """Run pip with the markers in the first argument."""
    import pip._vendor.packaging.markers as markers

    environment: dict[str, str] = json.loads(sys.argv[1])
    markers.default_environment = lambda: dict(environment)  # type: ignore[assignment,return-value]
    sys.argv = ["pip", *sys.argv[2:]]
    runpy.run_module("pip", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
