"""Prompt in, tokens out: models, the engine that runs them, and the operator that signs for what ran."""
