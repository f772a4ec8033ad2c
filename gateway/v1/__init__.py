"""Generated from protos/gateway/v1 by tools/protos.py; do not edit."""
