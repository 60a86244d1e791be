import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainbrr.errors import DataError
from brainbrr.montage import BIPOLAR, CHANNELS, INTERPOLATED_FROM, MONTAGES, N_CHANNELS, derive, parse_label

TUSZ = [f"EEG {name.upper()}-REF" for name in CHANNELS]
CHB = [
    "FP1-F7", "F7-T7", "T7-P7", "P7-O1", "FP1-F3", "F3-C3", "C3-P3", "P3-O1", "FP2-F4", "F4-C4", "C4-P4", "P4-O2",
    "FP2-F8", "F8-T8", "T8-P8", "P8-O2", "FZ-CZ", "CZ-PZ", "P7-T7", "T7-FT9", "FT9-FT10", "FT10-T8", "T8-P8",
]  # fmt: skip
DECOYS = ["EEG EKG1-REF", "EEG A1-REF", "EEG T1-REF", "EEG C3P-REF", "EEG OZ-REF", "EEG 20-REF", "PHOTIC-REF", "IBI",
          "DC1",           "-", ".", "", "EEG ROC-REF", "1", "2", "MK", "EEG F9", "EEG FT9-REF"]  # fmt: skip


@pytest.mark.parametrize(
    ("label", "parsed"),
    [
        ("EEG FP1-REF", ("Fp1", None)), ("EEG FP1-LE", ("Fp1", None)), ("Fp1", ("Fp1", None)),
        ("EEG FP2", ("Fp2", None)),
        ("Fz-Avg", ("Fz", None)), ("EEG T7-REF", ("T3", None)), ("P8-CS2", ("T6", None)), ("C3-Ref", ("C3", None)),
        ("T8-P8", ("T4", "T6")), ("T8-P8-1", ("T4", "T6")), ("P4-02", ("P4", "O2")), ("01-CS2", ("O1", None)),
        ("T7-FT9", ("T3", "FT9")), ("EEG  CZ -REF", ("Cz", None)), *((decoy, None) for decoy in DECOYS),
    ],
)  # fmt: skip
def test_labels_are_read_by_name(label, parsed):
    assert parse_label(label) == parsed


@given(st.permutations(TUSZ + DECOYS), st.sampled_from(["-REF", "-LE", "", "-Avg"]))
def test_channels_are_picked_by_name_whatever_their_order(labels, suffix):
    labels = [label.replace("-REF", suffix) if label in TUSZ else label for label in labels]
    signal = np.array([[1000.0 + labels.index(label)] for label in labels], np.float32)
    derivation = derive(labels)
    made = derivation.apply(signal[list(derivation.sources)])
    wanted = [labels.index(f"EEG {name.upper()}{suffix}") + 1000 for name in CHANNELS]
    assert made[:, 0].tolist() == wanted


def test_every_missing_channel_is_named():
    labels = [label for label in TUSZ if "T3" not in label and "O2" not in label]
    with pytest.raises(DataError, match=r"file\.edf: missing channels: T3, O2") as caught:
        derive(labels, where="file.edf")
    assert caught.value.got == "17 channels"


@pytest.mark.parametrize("absent", [{"Fz"}, {"Pz"}, {"Fz", "Pz"}])
def test_missing_midline_is_the_mean_of_its_neighbors(absent):
    labels = [f"EEG {name.upper()}-REF" for name in CHANNELS if name not in absent]
    derivation = derive(labels)
    assert set(derivation.interpolated) == absent
    for name in absent:
        row = derivation.weights[CHANNELS.index(name)]
        used = {derivation.labels[i] for i in np.flatnonzero(row)}
        assert used == {f"EEG {n.upper()}-REF" for n in INTERPOLATED_FROM[name]}
        assert row.sum() == pytest.approx(1)
        left, right = (row[derivation.labels.index(f"EEG {n.upper()}-REF")] for n in INTERPOLATED_FROM[name][:2])
        assert left == pytest.approx(right)


def test_midline_is_not_made_from_neighbors_that_are_missing_too():
    labels = [label for label in TUSZ if "FZ" not in label and "CZ" not in label]
    with pytest.raises(DataError, match="missing channels: Fz, Cz"):
        derive(labels)


def test_a_channel_twice_is_refused():
    with pytest.raises(DataError, match="channel T3 stands twice") as caught:
        derive([*TUSZ, "EEG T7-REF"])
    assert caught.value.got == "'EEG T3-REF' and 'EEG T7-REF'"


def test_bipolar_rows_agree_between_referential_and_bipolar_files():
    random = np.random.default_rng(0)
    potentials = {name: random.normal(size=50).astype(np.float32) for name in (*CHANNELS, "FT9", "FT10")}
    synonyms = {"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6"}
    by_name = {name.upper(): value for name, value in potentials.items()}
    by_name |= {new: potentials[old] for new, old in synonyms.items()}
    pairs = np.array([by_name[a] - by_name[b] for a, b in (label.split("-") for label in CHB)], np.float32)
    from_pairs = derive(CHB, "bipolar")
    from_electrodes = derive(TUSZ, "bipolar")
    electrodes = np.array([potentials[name] for name in CHANNELS])
    expected = np.array([potentials[a] - potentials[b] for a, b in (row.split("-") for row in BIPOLAR)])
    np.testing.assert_allclose(from_pairs.apply(pairs[list(from_pairs.sources)]), expected, atol=1e-5)
    np.testing.assert_allclose(from_electrodes.apply(electrodes[list(from_electrodes.sources)]), expected, atol=1e-5)


def test_bipolar_file_is_refused_as_referential_with_the_way_out():
    with pytest.raises(DataError, match=r"set data\.montage: bipolar"):
        derive(CHB)


def test_montages_have_the_models_width():
    assert all(len(rows) == N_CHANNELS == len(set(rows)) for rows in MONTAGES.values())
