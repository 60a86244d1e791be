"""Scripts of the zoo run when they are imported: they are no place for doctests."""

collect_ignore = ["scripts", "trainers/machinery/sources"]
