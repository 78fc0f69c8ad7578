"""The judge as a test suite, for any backend and device: `pytest --pyargs parity --backend NAME`."""
