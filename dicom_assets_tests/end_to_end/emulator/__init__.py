"""The emulator as a client meets it: over HTTP, on a real socket."""
