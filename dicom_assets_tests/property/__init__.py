"""Random histories of an archive against a replay that shares no code with the project."""
