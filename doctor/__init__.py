"""Checks your settings against the running WebUIs, Redis, nginx and storage: ``python -m doctor``."""
