"""Several runs as one: seeds and sweeps, tables of runs, and repeating a run."""
