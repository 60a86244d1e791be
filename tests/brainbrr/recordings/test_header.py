"""The mutations that other readers let pass, one by one."""

import numpy as np
import pytest
from data_files import noise, overwrite, write_edf

from brainbrr.errors import DataError
from brainbrr.recordings import read_recording
from brainbrr.recordings.edf import read_facts

N = 20  # channels: 19 and one decoy
UNIT, PHYSICAL_MIN, PHYSICAL_MAX, DIGITAL_MIN, DIGITAL_MAX, SAMPLES = (
    256 + N * before for before in (96, 104, 112, 120, 128, 216)
)  # fmt: skip


@pytest.fixture
def sound(tmp_path):
    signals = noise(8, 64) | {"EEG EKG1-REF": np.zeros(8 * 64)}
    return write_edf(tmp_path / "sound.edf", signals, 64)


def field(offset, channel, text, width=8):
    return offset + channel * width, text.ljust(width).encode()


MUTATIONS = {
    "number of records -1": ((236, b"-1      "), "declares no signal"),
    "number of records 0": ((236, b"0       "), "declares no signal"),
    "number of records too big": ((236, b"9       "), "size does not fit"),
    "number of records too small": ((236, b"7       "), "size does not fit"),
    "number of records blank": ((236, b"        "), "unreadable number of records"),
    "number of records no number": ((236, b"1_0     "), "unreadable number of records"),
    "duration of a record 0": ((244, b"0       "), "declares no signal"),
    "duration of a record nan": ((244, b"nan     "), "unreadable duration of a record"),
    "number of signals too small": ((252, b"19  "), "wrong size of the header"),
    "number of signals too big": ((252, b"21  "), "wrong size of the header"),
    "number of signals huge": ((252, b"9999"), "header is cut"),
    "header size wrong": ((184, b"4864    "), "wrong size of the header"),
    "EDF+D": ((192, b"EDF+D"), "discontinuous"),
    "BDF": ((0, b"\xffBIOSEMI"), "not an EDF file"),
    "HTML": ((0, b"<!DOCTYPE html>"), "not an EDF file"),
    "unit blank": (field(UNIT, 3, ""), "unknown physical unit"),
    "unit nV": (field(UNIT, 3, "nV"), "unknown physical unit"),
    "physical min == max": (field(PHYSICAL_MIN, 3, "3276.7"), "scale is lost"),
    "physical max no number": (field(PHYSICAL_MAX, 3, "1e"), "unreadable physical range"),
    "digital min == max": (field(DIGITAL_MIN, 3, "32767"), "impossible digital range"),
    "digital min > max": (field(DIGITAL_MAX, 3, "-32768"), "impossible digital range"),
    "digital range beyond 16 bits": (field(DIGITAL_MAX, 3, "65535"), "impossible digital range"),
    "samples of one channel other": (field(SAMPLES, 3, "63"), "size does not fit"),
    "samples negative": (field(SAMPLES, 3, "-64"), "a negative number of samples"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutated_header_is_refused_in_one_sentence(sound, name):
    (offset, content), message = MUTATIONS[name]
    overwrite(sound, offset, content)
    with pytest.raises(DataError, match=message) as caught:
        read_recording(sound)
    assert str(sound) in str(caught.value)
    with pytest.raises(DataError, match=message):
        read_facts(sound)


@pytest.mark.parametrize("n_bytes", [0, 100, 256, 3000, 256 * 21, 256 * 21 + 2 * 64 * N * 3 + 17])
def test_a_cut_file_is_refused(sound, n_bytes):
    sound.write_bytes(sound.read_bytes()[:n_bytes])
    with pytest.raises(DataError, match=r"not an EDF file|header is cut|size does not fit"):
        read_facts(sound)


def test_a_file_that_has_grown_is_refused(sound):
    sound.write_bytes(sound.read_bytes() + b"\0" * 100)
    with pytest.raises(DataError, match="size does not fit"):
        read_facts(sound)


@pytest.mark.parametrize("name", ["unit blank", "physical min == max", "digital min == max"])
def test_a_decoys_header_does_not_matter(sound, name):
    (offset, content), _ = MUTATIONS[name]
    expected = read_recording(sound)[0]
    overwrite(sound, offset + (19 - 3) * 8, content)
    np.testing.assert_array_equal(read_recording(sound)[0], expected)


@pytest.mark.parametrize("content", [b"99.99.99", b"        ", b"xx.xx.xx"])
def test_a_wrong_date_does_not_matter(sound, content):
    expected = read_recording(sound)[0]
    overwrite(sound, 168, content)
    np.testing.assert_array_equal(read_recording(sound)[0], expected)


def test_an_impossible_time_is_refused(sound):
    overwrite(sound, 176, b"25.61.99")
    with pytest.raises(DataError, match="MNE cannot read it"):
        read_recording(sound)


def test_wanted_channels_of_different_rates_are_refused(tmp_path):
    signals = noise(4, 64)
    signals["EEG T3-REF"] = signals["EEG T3-REF"][::2]
    path = write_edf(tmp_path / "x.edf", signals, 64, slow={"EEG T3-REF": 32})
    with pytest.raises(DataError, match=r"differ in their sampling rate.*32, 64 Hz"):
        read_facts(path)


@pytest.mark.parametrize(("scale", "message"), [(2e5, "far too large"), (1e-6, "far too small"), (0, "far too small")])
def test_amplitudes_that_cannot_be_scalp_eeg_are_refused(tmp_path, scale, message):
    signals = {label: values * scale for label, values in noise(4, 64).items()}
    path = write_edf(tmp_path / "x.edf", signals, 64, limit=9_999_999 if scale > 1 else 0.001)
    with pytest.raises(DataError, match=message):
        read_recording(path)


def test_one_flat_channel_is_no_reason_to_refuse(tmp_path):
    signals = noise(4, 64)
    signals["EEG T3-REF"] = np.zeros(256)
    signal, _ = read_recording(write_edf(tmp_path / "x.edf", signals, 64))
    assert np.ptp(signal[5]) == 0 < np.ptp(signal[4])


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot be opened: No such file"):
        read_facts(tmp_path / "no.edf")
