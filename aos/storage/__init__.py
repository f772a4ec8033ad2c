"""Files by what they hold."""
