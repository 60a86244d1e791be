"""Call a function with the command line: --name=value."""

import ast
import sys


def Fire(function):
    def value(text):
        try:
            return ast.literal_eval(text)
        except (SyntaxError, ValueError):
            return text

    pairs = (word.removeprefix("--").split("=", 1) for word in sys.argv[1:])
    return function(**{name.replace("-", "_"): value(text) for name, text in pairs})
