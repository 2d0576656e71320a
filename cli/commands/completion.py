"""`faas completion`: the script that makes a shell complete commands, options and names of functions."""

from __future__ import annotations

import click


@click.command(short_help="Print a script that completes commands in a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash:  faas completion bash > ~/.local/share/bash-completion/completions/faas
    zsh:   faas completion zsh > "${fpath[1]}/_faas"
    fish:  faas completion fish > ~/.config/fish/completions/faas.fish
    """
    from click.shell_completion import get_completion_class

    generator = get_completion_class(shell)
    assert generator is not None
    click.echo(generator(context.find_root().command, {}, "faas", "_FAAS_COMPLETE").source())
