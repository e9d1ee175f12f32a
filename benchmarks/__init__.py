"""Speed, measured as ratios from one run. `make bench`."""
