"""The `faas` command. `roles` alone wires processes together; every other module talks HTTP to a gateway."""
