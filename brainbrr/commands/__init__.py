"""One file per command of ``brainbrr``; imported only when the command is asked for."""
