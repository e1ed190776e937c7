"""The partition machine in a simulated cluster: random logs from a seed, beside a model that knows no catch-up."""
