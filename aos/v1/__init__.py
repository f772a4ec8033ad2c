"""Generated from protos/aos/v1 by tools/protos.py; do not edit."""
