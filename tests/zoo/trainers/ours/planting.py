"""Where planted faults are listed."""

PLANTED = {}
"""Fault -> a function that yields (owner, attribute, replacement)."""


def plants(function):
    """Enter a fault under the name of the function that plants it."""
    PLANTED["ours-" + function.__name__.replace("_", "-")] = function
    return function
