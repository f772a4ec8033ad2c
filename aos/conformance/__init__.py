"""Whether a server keeps the documented model interface: what is asked of it, and what its answers must look like."""
