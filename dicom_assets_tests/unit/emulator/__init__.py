"""The emulator's parts, each alone."""
