"""Serve the function in the working folder: `python -I PATH/pinnace_runtime/__main__.py TEMPLATE`.

`-I` keeps the environment and the working folder off `sys.path`; this runtime goes to its end, so that whatever the
user's requirements pin is found first.
"""

import os
import sys

if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    from pinnace_runtime.process import main

    main(sys.argv[1:])
