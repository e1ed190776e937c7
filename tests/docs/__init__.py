"""What the documentation must hold: everything there is, nothing that there is not, and no dead link."""
