"""Evidence of trusted execution: what it says, what it must be bound to, what is taken. See docs/reference/attestation.md."""
