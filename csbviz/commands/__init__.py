"""What each command of the command line does: one module a command, with ``run(args) -> exit code``."""

__all__: list[str] = []
