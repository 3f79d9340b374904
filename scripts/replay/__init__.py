"""In which order should the members of a pool have been trained? ``scripts/bench_replay`` is the command."""
