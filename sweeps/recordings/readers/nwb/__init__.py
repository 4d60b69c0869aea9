"""Two-photon sessions in NWB files, version 1 and 2."""
