"""lamina beside its peers: `python -m benchmarks` runs all of it; README.md says how numbers are taken."""
