"""The project through the real Dagster: real Delta tables, and the emulator over real sockets."""
