"""What all benchmarks measure with: proxies set up alike, load, processor time, tables."""
