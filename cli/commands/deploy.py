"""`faas deploy`: from source to a function that answers.

For each function: run its tests, pack its folder, build it on the gateway, deploy the image, wait until its newest
revision is ready. Several functions go side by side; one that fails does not stop the others.
"""

from __future__ import annotations

from typing import Any

import click

from cli.batch import deploy_all, make_plan
from cli.deploy_flags import DeployFlags, deploy_options


@click.command(short_help="Build and deploy functions and wait until they answer.")
@click.argument("path", metavar="[PATH]", default="")
@deploy_options
def deploy(path: str, **flags: Any) -> int:
    """Build and deploy functions and wait until they answer.

    \b
    faas deploy                      all functions of stack.yaml
    faas deploy hello                one of them, or the folder hello
    faas deploy ./src --name hello   a folder, with or without a stack file
    faas deploy --image IMAGE --name hello

    A function's own tests run first, on this machine; when they fail it is not deployed. A function whose new code does
    not start keeps serving the code it had.
    """
    return deploy_all(make_plan(path, DeployFlags.of(flags)))
