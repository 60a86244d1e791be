"""Faults of the surroundings: environment and marks."""

from zoo.trainers.ours.planting import plants


@plants
def limit_read_at_import():
    from brainbrr import environment

    # What the variable was before the run set it.
    yield environment, "limit_files", lambda: None


@plants
def smoke_mark_missing():
    from brainbrr.training import output, session

    original, record = session.header, session.RunRecord
    yield session, "header", lambda *args, **options: original(*args, **{**options, "smoke": False})
    yield session, "RunRecord", lambda *args, **options: record(*args, **{**options, "smoke": False})
    yield session, "MetricsLog", lambda path, *, smoke, start: output.MetricsLog(path, smoke=False, start=start)
    yield session, "SMOKE_BANNER", ""
