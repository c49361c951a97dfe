"""The fixtures of the emulator's tests: one breakable server, an archive for each test."""

from dicom_assets_tests.emulator.conftest import application, archive, client, faults, url

__all__ = ["application", "archive", "client", "faults", "url"]
