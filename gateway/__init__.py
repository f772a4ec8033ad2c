"""REST dialects over the native API: translate, call, translate back. One file each."""
