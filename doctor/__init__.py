"""Holds a configuration against the world, and says what is wrong with it and how to mend it: ``python -m doctor``."""
