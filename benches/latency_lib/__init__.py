"""What benches/latency is made of."""
