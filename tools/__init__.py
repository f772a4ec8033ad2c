"""Programs that make committed files; nothing here is needed at run time."""
