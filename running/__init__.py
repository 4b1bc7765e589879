"""How a script runs: its output folder, its processes."""
