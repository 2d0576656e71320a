"""`faas`, with elections, tenures and looks in a fraction of their time: what takes half a minute is seen in a few seconds.

python -m tests.orchestration.kubernetes.hasty QUICKER serve …
"""

from __future__ import annotations

import sys

from cli.main import main
from orchestration.kubernetes.lease import Leadership
from tests.gateway.edge.another_process import hasten


def hasten_elections(quicker: float) -> None:
    """Divide the times of the Lease by `quicker`."""
    defaults = Leadership.__init__.__kwdefaults__
    assert defaults is not None
    defaults |= {name: defaults[name] / quicker for name in ("duration_s", "renew_within_s", "renew_every_s")}


if __name__ == "__main__":
    given = float(sys.argv.pop(1))
    hasten_elections(given)
    for (module, name), value in hasten(given).items():
        if name != "PAUSE_S":  # the machine may be busy for as long as a hasty pause
            setattr(module, name, value)
    main()
