"""Run the command line: ``python -m brainbrr``."""

from brainbrr.cli import main

if __name__ == "__main__":
    main()
