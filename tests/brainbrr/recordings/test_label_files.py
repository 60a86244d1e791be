"""The parsers of label files: what is written comes back, and what is wrong is refused with its line."""

import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainbrr.errors import DataError
from brainbrr.recordings.bids import read_events
from brainbrr.recordings.chbmit import read_summary
from brainbrr.recordings.labels import BACKGROUND_CODES, SEIZURE_CODES, read_tusz_labels
from brainbrr.recordings.siena import read_list
from brainbrr.recordings.types import Seizure, merge

HEAD = "# version = csv_v1.0.0\n# bname = x_s001_t000\n# duration = 1000.0000 secs\n# montage_file = m\n#\n"
COLUMNS = "channel,start_time,stop_time,label,confidence\n"


def write(folder, text, name="x_s001_t000.csv_bi"):
    path = Path(folder) / name
    path.write_bytes(text.encode())
    return path


@st.composite
def events(draw, largest=9_999):
    """Intervals in tenths of a millisecond, unsorted, overlapping."""
    edges = st.tuples(st.integers(0, largest * 1000), st.integers(1, 500_000))
    return [(start, min(start + length, 10_000_000)) for start, length in draw(st.lists(edges, max_size=6))]


def covered(intervals, grid):
    return [any(on <= at < off for on, off in intervals) for at in grid]


@settings(deadline=None, max_examples=60)
@given(events(), st.sampled_from(sorted(SEIZURE_CODES)), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_tusz_rows_come_back_as_their_union(rows, code, end, per_channel):
    lines = [f"{'FP1-F7' if per_channel else 'TERM'},{on / 1e4:.4f},{off / 1e4:.4f},{code},1.0000" for on, off in rows]
    lines.append("TERM,0.0000,1.0000,bckg,1.0000")
    with tempfile.TemporaryDirectory() as folder:
        read = read_tusz_labels(write(folder, (HEAD + COLUMNS).replace("\n", end) + end.join(lines) + end))
    assert read.duration_s == 1000
    edges = sorted({edge for row in rows for edge in row})
    grid = [edge + shift for edge in edges for shift in (-1, 0, 1)]
    found = [(round(s.onset_s * 1e4), round(s.offset_s * 1e4)) for s in read.seizures]
    assert covered(found, grid) == covered(rows, grid)
    assert all(first[1] < second[0] for first, second in itertools.pairwise(found))


@pytest.mark.parametrize("code", sorted(BACKGROUND_CODES))
def test_background_codes_are_no_seizure(tmp_path, code):
    assert read_tusz_labels(write(tmp_path, f"{HEAD}{COLUMNS}TERM,0.0,1.04,{code},1.0\n")).seizures == ()


BROKEN = {
    "unknown code": ("TERM,1.0,2.0,seizure,1.0\n", r"csv_bi:7: unknown label .*'seizure'.*absz.*tnsz"),
    "ends before it starts": ("TERM,3.0,2.0,seiz,1.0\n", r":7: not an interval"),
    "negative": ("TERM,-3.0,2.0,seiz,1.0\n", r":7: not an interval"),
    "infinite": ("TERM,3.0,inf,seiz,1.0\n", r":7: not a finite number"),
    "no number": ("TERM,3.0,2.x,seiz,1.0\n", r":7: not a number"),
    "underscored": ("TERM,3.0,2_0,seiz,1.0\n", r":7: not a finite number"),
    "short row": ("TERM,1.0,2.0\n", r":7: a row of another width"),
    "cut row": ("TERM,1.0,2.0,seiz,1.0\nTERM,5.0,6.0,se", r"is cut"),
    "no row": ("", r"no row, not even background"),
    "after the end": ("TERM,990.0,1002.0,seiz,1.0\n", r"a seizure ends after the recording"),
    "confidence": ("TERM,1.0,2.0,seiz,7\n", r":7: not a confidence"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_tusz_labels_are_refused(tmp_path, name):
    rows, message = BROKEN[name]
    with pytest.raises(DataError, match=message):
        read_tusz_labels(write(tmp_path, HEAD + COLUMNS + rows))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is cut"),
        ("\n", "not a header of TUSZ labels"),
        (HEAD, "not a header of TUSZ labels"),
        (HEAD + "TERM,1.0,2.0,seiz,1.0\n", "not a header of TUSZ labels"),
        (HEAD.replace("x_s001", "y_s001") + COLUMNS + "TERM,1.0,2.0,seiz,1.0\n", "labels of another recording"),
    ],
)
def test_files_that_are_no_labels_of_this_recording(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_tusz_labels(write(tmp_path, content))


def test_binary_labels_are_refused(tmp_path):
    path = tmp_path / "x.csv_bi"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match="no text"):
        read_tusz_labels(path)


@settings(deadline=None, max_examples=40)
@given(events(), st.booleans(), st.permutations(["onset", "duration", "eventType", "confidence", "recordingDuration"]))
def test_events_come_back_whatever_the_order_of_columns(rows, background, columns):
    table = [
        {"onset": f"{on / 1e4:.4f}", "duration": f"{(off - on) / 1e4:.4f}", "eventType": "sz_foc_ia",
         "confidence": "n/a",
         "recordingDuration": "1000.00"}
        for on, off in rows
    ]  # fmt: skip
    if background or not rows:
        table.append(
            {"onset": "0.0", "duration": "1000", "eventType": "bckg", "confidence": "n/a", "recordingDuration": "n/a"}
        )
    text = "\t".join(columns) + "\n" + "".join("\t".join(row[c] for c in columns) + "\n" for row in table)
    with tempfile.TemporaryDirectory() as folder:
        read = read_events(write(folder, text, "events.tsv"))
    expected = merge([Seizure(on / 1e4, off / 1e4) for on, off in rows])
    edges = [edge for s in expected for edge in (s.onset_s, s.offset_s)]
    assert [edge for s in read.seizures for edge in (s.onset_s, s.offset_s)] == pytest.approx(edges, abs=1e-6)
    assert read.duration_s == (1000 if rows else None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not SzCORE events .got nothing"),
        ("onset\tduration\n1\t2\n", "not SzCORE events"),
        ("onset\tduration\teventType\n", "no row"),
        ("onset\tduration\teventType\n1\t2\tsz", "is cut"),
        ("onset\tduration\teventType\n1\tn/a\tsz\n", ":2: not a number"),
        ("onset\tduration\teventType\n1\t2\tn/a\n", ":2: unknown event type"),
        ("onset\tduration\teventType\n1\t0\tsz\n", ":2: not an interval"),
        ("onset\tduration\teventType\n1\t2\n", ":2: a row of another width"),
        ("onset\tduration\teventType\trecordingDuration\n1\t2\tsz\t9\n3\t1\tsz\t8\n", "differ in recordingDuration"),
    ],
)
def test_broken_events_are_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_events(write(tmp_path, text, "events.tsv"))


@st.composite
def summaries(draw):
    text, truth = "Data Sampling Rate: 256 Hz\n*************************\n\nChannel 1: FP1-F7\n\n", {}
    for number in range(draw(st.integers(1, 4))):
        name = f"chb02_{number:02d}{draw(st.sampled_from(['', '+']))}.edf"
        starts = sorted(draw(st.lists(st.integers(0, 3000), max_size=3, unique=True)))
        seizures = [(start, start + draw(st.integers(1, 90))) for start in starts]
        text += f"File Name: {name}\n"
        if draw(st.booleans()):
            text += "File Start Time: 23:37:23\nFile End Time: 24:37:23 \n"
        text += f"Number of Seizures in File: {len(seizures)}\n"
        numbered = draw(st.booleans())
        for i, (on, off) in enumerate(seizures, start=1):
            which = f" {i}" if numbered else ""
            text += f"Seizure{which} Start Time: {on} seconds\nSeizure{which} End Time:  {off} seconds\n"
        text += "\n"
        truth[name] = merge([Seizure(float(on), float(off)) for on, off in seizures])
    return text, truth


@settings(deadline=None, max_examples=40)
@given(summaries())
def test_summaries_come_back(case):
    text, truth = case
    with tempfile.TemporaryDirectory() as folder:
        assert read_summary(write(folder, text, "chb02-summary.txt")) == truth


ONE = "Seizure Start Time: 5 seconds\nSeizure End Time: 9 seconds\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("File Name: a.edf\nNumber of Seizures in File: 1\nSeizure Start Time: 5 seconds\n", "without its end"),
        (f"File Name: a.edf\nNumber of Seizures in File: 2\n{ONE}",
         "number of seizures does not fit .got 1, expected 2"),
        ("File Name: a.edf\nSeizure Start Time: 5 seconds\nSeizure End Time: 9 seconds\n", "expected a count"),
        ("File Name: a.edf\nNumber of Seizures in File: 1\nSeizure End Time: 9 seconds\n", ":3: .*do not alternate"),
        ("File Name: a.edf\nNumber of Seizures in File: 0\nFile Name: a.edf\n", "listed twice"),
        ("Number of Seizures in File: 0\n", "no file name before"),
        ("File Name: a.edf\nNumber of Seizures in File: 1\nSeizure Start Time: five\n", "unreadable time"),
    ],
)  # fmt: skip
def test_broken_summaries_are_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_summary(write(tmp_path, text, "chb02-summary.txt"))


SIENA = """PN06

Data Sampling Rate: 512 Hz

Channels in EDF files:
Channel 5: 1

Seizure n 1 (in sleep)
File name: PNO6-1.edf
Registration start time: 22.10.00
Registration end time: 01.10.00
Seizure start time: 23.59.30
Seizure end time: 00.01.00

Seizure n 2
File name: PN06-2.edf
Registration start time:1 6.49.25
Registration end time: 18.00.00
Start time: 16:50:25
End time: 16.51.25

Seizure n 3
File name: PN06-2.edf
Seizure start time: 17.49.25
Seizure end time:17.49.35
"""


def test_lists_come_back_over_midnight_and_slips_of_the_pen(tmp_path):
    assert read_list(write(tmp_path, SIENA, "list.txt")) == {
        "pno6-1.edf": (Seizure(6570, 6660),),
        "pn06-2.edf": (Seizure(60, 120), Seizure(3600, 3610)),
    }


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("23.59.30", "23.61.30", ":12: not a clock time"),
        ("Seizure end time: 00.01.00\n", "", "a seizure without its end"),
        ("Registration start time: 22.10.00\n", "", "no start of the registration"),
        ("File name: PNO6-1.edf\n", "", "no file name before"),
        ("00.01.00", "23.59.30", "not an interval"),
        (SIENA, "", "names no recording"),
    ],
)
def test_broken_lists_are_refused(tmp_path, before, after, message):
    with pytest.raises(DataError, match=message):
        read_list(write(tmp_path, SIENA.replace(before, after), "list.txt"))
