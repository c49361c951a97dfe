"""OneLake shortcuts, against a Fabric on this machine that does what the published API says."""
