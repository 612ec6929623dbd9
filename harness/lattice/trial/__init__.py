"""Does the lattice help? An experiment, published as `reports/lattice.md`."""
