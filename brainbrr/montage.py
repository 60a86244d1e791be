"""The 19 channels of the international 10-20 system that every model here sees, in this order."""

CHANNELS: tuple[str, ...] = (
    "Fp1", "F3", "C3", "P3", "F7", "T3", "T5", "O1", "Fz", "Cz", "Pz", "Fp2", "F4", "C4", "P4", "F8", "T4", "T6", "O2",
)  # fmt: skip
N_CHANNELS = len(CHANNELS)
