"""AOS: an open network for verifiable AI compute."""
