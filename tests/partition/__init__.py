"""The partition machine, one behaviour a test. `world` is what they have in common."""
